"""Commands: studies retention, hold, release, correct, check."""

import getpass
import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from lungnode.cli import settings_of
from lungnode.cli.studies import AsJson, Uid, open_database, studies
from lungnode.settings import RetentionSettings


def register(_app: typer.Typer) -> None:
    """Add these commands to those of studies."""
    studies.command()(retention)
    studies.command()(hold)
    studies.command()(release)
    studies.command()(correct)
    studies.command()(check)


def retention(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each kind, the oldest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Say whose files the clerk deletes next, and what keeps those that would go; nothing is deleted."""
    from db.retention import due_studies, kept_bytes, kept_studies  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    settings, now = settings_of(context), datetime.now(UTC)
    with transaction(open_database(settings)) as session:
        due = [vars(each) for each in due_studies(session, settings, now, limit)]
        kept = [vars(each) for each in kept_studies(session, settings, now, limit)]
        document = {"bytes": kept_bytes(session), "due": due, "kept": kept}
    for each in due:
        del each["study_id"]
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        _tell(document, settings.retention)


def _tell(document: dict[str, Any], limits: RetentionSettings) -> None:
    of = "" if limits.max_bytes is None else f" of {limits.max_bytes / 1e9:,.1f} GB"
    typer.echo(f"Studies and results take {document['bytes'] / 1e9:,.1f} GB{of}.")
    for each in document["due"]:
        typer.echo(f"goes   {each['study_instance_uid']} ({each['why']})")
    for each in document["kept"]:
        typer.echo(f"stays  {each['study_instance_uid']}: {'; '.join(each['reasons'])} ({each['why']})")
    if not document["due"]:
        typer.echo("Nothing is deleted next.")


def hold(
    context: typer.Context,
    uid: Uid,
    reason: Annotated[str, typer.Argument(help="Why, for whoever comes later.")],
) -> None:
    """Keep a study whatever retention says, and refuse to delete it, until it is released."""
    _set_hold(context, uid, reason)
    typer.echo(f"Study {uid} is on hold.")


def release(context: typer.Context, uid: Uid) -> None:
    """End the hold of a study."""
    _set_hold(context, uid, "")
    typer.echo(f"Study {uid} is not on hold any more.")


def correct(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    uid: Uid,
    patient_id: Annotated[str | None, typer.Option(help="Patient ID.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Issuer of Patient ID.")] = None,
    patient_name: Annotated[str | None, typer.Option(help="Patient's Name: Doe^Jane.")] = None,
    birth_date: Annotated[str | None, typer.Option(help="Patient's Birth Date, YYYYMMDD.")] = None,
    sex: Annotated[str | None, typer.Option(help="Patient's Sex: M, F or O.")] = None,
    accession: Annotated[str | None, typer.Option(help="Accession Number.")] = None,
) -> None:
    """Correct the patient of a study: index and outputs say so, files stay as they came; analyse it again."""
    from db import corrections  # noqa: PLC0415 - when called
    from db.intake import serialise  # noqa: PLC0415 - when called
    from db.queries import get_study  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    given = {
        "PatientID": patient_id,
        "IssuerOfPatientID": issuer,
        "PatientName": patient_name,
        "PatientBirthDate": birth_date,
        "PatientSex": sex,
        "AccessionNumber": accession,
    }
    attributes = {keyword: _checked(keyword, value) for keyword, value in given.items() if value is not None}
    if not attributes:
        raise typer.BadParameter("Name what is corrected: --patient-id, --patient-name, ...")
    settings = settings_of(context)
    with transaction(open_database(settings)) as session:
        serialise(session)
        study = get_study(session, uid)
        said = corrections.Said(attributes, f"the account {getpass.getuser()}")
        if not corrections.correct(session, settings, study, said, datetime.now(UTC)):
            typer.echo(f"Study {uid} says all of this already.")
            return
        is_analysed = bool(study.analyses)
    follows = "Its results so far do not count any more; a new revision follows." if is_analysed else ""
    typer.echo(f"Study {uid} is corrected. {follows}".rstrip())


def check(
    context: typer.Context,
    digests: Annotated[bool, typer.Option("--digests", help="Read every file as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare rows with files: which are missing, changed or unknown; nothing is changed."""
    from daemon.clerk.orphans import find_orphans  # noqa: PLC0415 - when called

    settings = settings_of(context)
    engine = open_database(settings)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Comparing studies", total=None)
        found = find_orphans(
            engine, settings, digests=digests, progress=lambda done: bar.update(task, completed=done)
        )
    if as_json:
        records = [{"trouble": each.trouble, "path": each.place, "mend": each.mend} for each in found]
        typer.echo(json.dumps({"findings": records}, indent=2))
    else:
        for each in found:
            typer.echo(f"{each.trouble:8} {each.place}: {each.mend}")
        typer.echo(f"{len(found)} files are not as their rows say." if found else "Rows and files agree.")
    if found:
        raise typer.Exit(1)


def _checked(keyword: str, value: str) -> str:
    """Return a value that may stand in the attribute.

    Source: PS3.5 6.2, Value Representations.
    """
    from pydicom.config import RAISE  # noqa: PLC0415 - when called
    from pydicom.datadict import dictionary_VR  # noqa: PLC0415 - when called
    from pydicom.valuerep import validate_value  # noqa: PLC0415 - when called

    if "\\" in value:
        raise typer.BadParameter(f"{value} cannot stand in {keyword}: a backslash separates values.")
    known = {"PatientSex": ("M", "F", "O", "")}.get(keyword)
    if known and value not in known:
        raise typer.BadParameter(f"{value}: Patient's Sex is M, F or O.")
    try:
        validate_value(dictionary_VR(keyword), value, RAISE)
    except ValueError as error:
        raise typer.BadParameter(f"{value} cannot stand in {keyword}: {error}") from error
    return value


def _set_hold(context: typer.Context, uid: str, reason: str) -> None:
    from db.changes import set_hold  # noqa: PLC0415 - when called
    from db.queries import get_study  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    with transaction(open_database(settings_of(context))) as session:
        set_hold(session, get_study(session, uid), reason, datetime.now(UTC))
