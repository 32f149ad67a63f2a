"""Commands: studies."""

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress

from lungnode.cli import settings_of
from lungnode.cli.study_views import (
    analysis_record,
    commitment_record,
    correction_record,
    print_list,
    print_study,
    question_record,
    series_record,
    study_record,
    summary_record,
    wide_console,
)
from lungnode.errors import UnusableError
from lungnode.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

studies = typer.Typer(help="List, show and look after studies.", no_args_is_help=True)
Uid = Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")]
DATES: Final = re.compile(r"\d{8}(-(\d{8})?)?|-\d{8}")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(studies, name="studies")


@studies.command("list")
def list_(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    patient: Annotated[str, typer.Option(help="Patient ID.")] = "",
    accession: Annotated[str, typer.Option(help="Accession Number.")] = "",
    date: Annotated[str, typer.Option(help="Study Date YYYYMMDD, or a range: 20260101-20260131.")] = "",
    sender: Annotated[str, typer.Option(help="Calling AE title.")] = "",
    state: Annotated[str, typer.Option(help="receiving, complete or withdrawn.")] = "",
    verdict: Annotated[str, typer.Option(help="Verdict of the last analysis.")] = "",
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="List files that cannot be indexed instead.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List studies, the one that changed last first."""
    from db.models import StudyState  # noqa: PLC0415 - when called
    from db.queries import StudyFilter, list_quarantined, list_studies  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called
    from worker.result import Verdict  # noqa: PLC0415 - when called

    _check("state", state, list(StudyState))
    _check("verdict", verdict, list(Verdict))
    if date and not DATES.fullmatch(date):
        raise typer.BadParameter(f"{date}: a date is YYYYMMDD, a range 20260101-20260131.")
    wanted = StudyFilter("", patient, accession, date, sender, state, verdict, limit)
    with transaction(open_database(settings_of(context))) as session:
        if quarantined:
            _print_quarantined([_plain(row) for row in list_quarantined(session, limit)], as_json=as_json)
            return
        records = [summary_record(summary) for summary in list_studies(session, wanted)]
    if as_json:
        typer.echo(json.dumps({"studies": records}, indent=2))
    else:
        print_list(wide_console(), records)


@studies.command()
def show(context: typer.Context, uid: Uid, as_json: AsJson = False) -> None:
    """Show a study: its series, completeness, questions, labels, analyses, results and deliveries."""
    from db.commitments import list_requests  # noqa: PLC0415 - when called
    from db.inquiries import list_inquiries  # noqa: PLC0415 - when called
    from db.labels import described, opinion_of  # noqa: PLC0415 - when called
    from db.queries import get_study, list_noted, list_series  # noqa: PLC0415 - when called
    from db.retention import reasons_to_keep  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    settings = settings_of(context)
    attempts = settings.delivery.max_attempts
    with transaction(open_database(settings)) as session:
        study = get_study(session, uid)
        noted = list_noted(session, study)
        record = study_record(study) | {
            "series": [series_record(series) for series in list_series(session, study)],
            "notes": [{"path": i.path, "disposition": i.disposition, "note": i.note} for i in noted],
            "corrections": [correction_record(each) for each in study.corrections],
            "labels": [described(opinion_of(label)) for label in study.labels],
            "questions": [question_record(row) for row in list_inquiries(session, study)],
            "commitments": [commitment_record(row) for row in list_requests(session, study_instance_uid=uid)],
            "analyses": [analysis_record(analysis, attempts) for analysis in study.analyses],
            "kept": reasons_to_keep(session, settings, study, _now()),
        }
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    else:
        print_study(wide_console(), record)


@studies.command()
def reanalyse(context: typer.Context, uid: Uid) -> None:
    """Analyse the same instances again, as a new revision; the clerk wakes a worker within seconds."""
    from db.changes import reanalyse as queue_again  # noqa: PLC0415 - when called
    from db.queries import get_study  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called
    from lungnode.rules import rule_named  # noqa: PLC0415 - when called

    settings = settings_of(context)
    with transaction(open_database(settings)) as session:
        study = get_study(session, uid)
        analysis = queue_again(session, study, rule_named(settings, study.rule).priority, _now())
    typer.echo(f"Revision {analysis.revision} of study {uid} is queued.")


@studies.command()
def reindex(context: typer.Context, as_json: AsJson = False) -> None:
    """Rebuild the index from the archive's files; what the spool holds is the clerk's."""
    from daemon.clerk.reindex import reindex as rebuild  # noqa: PLC0415 - when called
    from db.session import open_engine, upgrade  # noqa: PLC0415 - when called

    settings = settings_of(context)
    engine = open_engine(settings.database)
    upgrade(engine)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Reindexing", total=None)
        result = rebuild(
            engine, settings, _now(), lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        typer.echo(json.dumps(vars(result), indent=2))
        return
    typer.echo(f"{result.files} files in the archive, {result.added} of them were not indexed before.")
    for path, reason in result.rejected:
        typer.echo(f"Left out {path}: {reason}", err=True)


@studies.command()
def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    uids: Annotated[list[str], typer.Argument(metavar="UID...", help="Study Instance UIDs.")],
    folder: Annotated[Path, typer.Argument(help="Folder to copy into; it is made.")],
    results: Annotated[bool, typer.Option("--results", help="Copy our results as well.")] = False,
    deidentified: Annotated[
        bool, typer.Option("--deidentified", help="CT images only, without what tells who the patient is.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check de-identified copies with a second tool.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Copy studies into a folder: as they were received, or de-identified; several have a folder each."""
    from lungnode.cli._exports import export_deidentified, export_received, report  # noqa: PLC0415

    settings = settings_of(context)
    if deidentified and results:
        raise typer.BadParameter("Our results name the patient: --deidentified has none of them.")
    if as_json and not deidentified:
        raise typer.BadParameter("--json goes with --deidentified.")
    engine = open_database(settings)
    if deidentified:
        report(export_deidentified(settings, engine, uids, folder, check=verify), folder, as_json=as_json)
        return
    targets = {uid: folder if len(uids) == 1 else folder / uid for uid in uids}
    count = sum(export_received(settings, engine, uid, to, results=results) for uid, to in targets.items())
    typer.echo(f"{count} files are in {folder}.")


@studies.command()
def delete(
    context: typer.Context,
    uid: Uid,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even from a frozen test set.")] = False,
) -> None:
    """Delete a study's files and everything that is known of it; what was sent stays where it is."""
    from lungnode.cli._erasure import erase, is_known  # noqa: PLC0415 - when called

    settings = settings_of(context)
    engine = open_database(settings)
    if not is_known(engine, uid):
        raise UnusableError(f"There is no study {uid}.")
    if not yes:
        typer.confirm(f"Delete study {uid}, its files and its results?", abort=True)
    erased = erase(settings, engine, uid, _now(), force=force)
    typer.echo(f"Study {uid} is deleted.")
    if erased.runs:
        typer.echo(
            f"It was trained with in {', '.join(erased.runs)}: these runs list it, and their models have "
            "learnt from it. Delete and retire them where that must not be."
        )


def _check(name: str, value: str, known: "Sequence[str]") -> None:
    if value and value not in known:
        raise typer.BadParameter(f"{value}: the {name}s are {', '.join(known)}.")


def open_database(settings: Settings) -> "Engine":
    """Open the node's database, brought to this version.

    Raises:
        UnusableError: There is none yet.
        UnavailableError: It cannot be reached, or stays locked.
    """
    from db.session import open_engine, upgrade  # noqa: PLC0415 - when called

    engine = open_engine(settings.database)
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    if file and not Path(file).exists():
        raise UnusableError(
            f"There is no database {file} yet; is --data right, and was the node ever started?"
        )
    upgrade(engine)
    return engine


def _plain(row: Any) -> dict[str, Any]:
    names = ("path", "reason", "association_id", "calling_ae_title")
    return {name: getattr(row, name) for name in names} | {"received_at": row.received_at.isoformat()}


def _print_quarantined(records: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"quarantined": records}, indent=2))
        return
    for record in records:
        typer.echo(
            f"{record['received_at']} {record['path']} from {record['calling_ae_title']}: {record['reason']}"
        )


def _now() -> datetime:
    return datetime.now(UTC)
