"""Commands: check."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lungnode.cli import settings_of
from lungnode.errors import UnusableError
from lungnode.rules import destinations_of, first_match, keywords_of
from lungnode.settings import Settings
from lungnode.store import StoredFile, open_archive


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(check)


def check(
    context: typer.Context,
    study: Annotated[
        str | None, typer.Option(help="Study Instance UID or DICOM file: say which rule it meets instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check settings, database, broker, model and destinations; say what is wrong and how to mend it."""
    settings = settings_of(context)
    if study is not None:
        _tell_rule(rule_of(settings, study), as_json=as_json)
        return
    from lungnode.cli._check import Status  # noqa: PLC0415 - when called
    from lungnode.cli._checks import run_checks  # noqa: PLC0415

    records = []
    for each in run_checks(settings):
        records.append({"name": each.name, "status": each.status, "message": each.message, "mend": each.mend})
        if not as_json:
            typer.echo(
                f"{each.status:8} {each.name}: {each.message}" + (f" {each.mend}" if each.mend else "")
            )
    good = all(record["status"] != Status.WRONG for record in records)
    if as_json:
        typer.echo(json.dumps({"ok": good, "checks": records}, indent=2))
    if not good:
        raise typer.Exit(1)


def rule_of(settings: Settings, study: str) -> dict[str, Any]:
    """Return the rule that a study or a file meets with the settings in force, and what follows from it.

    Raises:
        UnusableError: The study is not known, or the file cannot be read.
    """
    from dataclasses import replace  # noqa: PLC0415 - when called

    from daemon.clerk.header import read_header  # noqa: PLC0415

    path, address, recorded = _first_file(settings, study)
    try:
        facts = read_header(path, keywords_of(settings.rules)).facts
    except OSError as error:
        raise UnusableError(f"{path} cannot be read: {error.strerror}.") from error
    rule = first_match(settings.rules, replace(facts, address=address))
    name = rule.name if rule else ""
    return {
        "study": study,
        "rule": name,
        "recorded": recorded,
        "analyse": rule.analyse if rule else True,
        "destinations": [destination.name for destination in destinations_of(settings, name)],
        "calling_ae_title": facts.calling_ae_title,
        "called_ae_title": facts.called_ae_title,
        "address": address,
    }


def _first_file(settings: Settings, study: str) -> tuple[Path, str, str | None]:
    """Return an instance of the study, its sender's address and the rule it recorded."""
    if Path(study).is_file():
        return Path(study), "", None
    from sqlalchemy import select  # noqa: PLC0415 - when called

    from db.models import Instance, Study  # noqa: PLC0415
    from db.session import open_engine, transaction  # noqa: PLC0415

    with transaction(open_engine(settings.database)) as session:
        row = session.scalar(select(Study).where(Study.study_instance_uid == study))
        if row is None:
            raise UnusableError(f"There is no study {study}, and no such file.")
        there = (Instance.study_id == row.id, Instance.deleted_at.is_(None))
        stored = select(Instance.path, Instance.size, Instance.digest)
        first = session.execute(stored.where(*there).order_by(Instance.id).limit(1)).first()
        if first is None:
            raise UnusableError(f"No file of study {study} is left ({row.files_deleted_by or 'none came'}).")
        (path,) = open_archive(settings).fetch([StoredFile(*first)])
        return path, row.address, row.rule


def _tell_rule(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    sender = f"{found['calling_ae_title'] or 'unknown'} to {found['called_ae_title'] or 'unknown'}"
    does = "is analysed" if found["analyse"] else "is only archived"
    rule = f"rule {found['rule']}" if found["rule"] else "no rule"
    where = ", ".join(found["destinations"]) or "nowhere"
    typer.echo(f"Sent by {sender}, the study meets {rule} and {does}; results go to {where}.")
    if found["recorded"] is not None and found["recorded"] != found["rule"]:
        typer.echo(f"When it came it met {found['recorded'] or 'no rule'}.")
