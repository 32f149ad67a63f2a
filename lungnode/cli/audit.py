"""Commands: audit list, audit export, audit verify."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lungnode.cli import settings_of
from lungnode.cli.studies import open_database
from lungnode.cli.study_views import wide_console

if TYPE_CHECKING:
    from db.audit_chain import Verdict
    from db.audit_trail import Wanted

audit = typer.Typer(help="Who did what, and whether the trail is whole.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
Since = Annotated[datetime | None, typer.Option(formats=_TIMES, help="From this time on, UTC.")]
Until = Annotated[datetime | None, typer.Option(formats=_TIMES, help="Before this time, UTC.")]
OfAction = Annotated[str, typer.Option(help="This action, for example 'study deleted'.")]
OfActor = Annotated[str, typer.Option(help="What this account, user or AE title did.")]
OfSubject = Annotated[str, typer.Option(help="What was done to this: a Study Instance UID, a digest.")]
Failed = Annotated[bool, typer.Option("--failed", help="What did not succeed.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(audit, name="audit")


@audit.command("list")
def list_(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    since: Since = None,
    until: Until = None,
    action: OfAction = "",
    actor: OfActor = "",
    subject: OfSubject = "",
    failed: Failed = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List events, the newest first; reading the trail is an event as well."""
    from db.audit_trail import newest, record_of  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    wanted = _wanted(since, until, action, actor, subject, failed)
    with transaction(open_database(settings_of(context))) as session:
        records = [record_of(row) for row in newest(session, wanted, limit)]
        _note_reading(session, wanted, events=len(records))
    if as_json:
        typer.echo(json.dumps({"events": records}, indent=2))
    else:
        _print_table(records)


@audit.command()
def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="File to write: a line of JSON an event.")],
    since: Since = None,
    until: Until = None,
    action: OfAction = "",
    actor: OfActor = "",
    subject: OfSubject = "",
    failed: Failed = False,
) -> None:
    """Write events with their PS3.15 messages to a file, the oldest first."""
    from db.audit_trail import everything, record_of  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    wanted, count = _wanted(since, until, action, actor, subject, failed), 0
    engine = open_database(settings_of(context))
    with file.open("x", encoding="utf-8") as lines:
        for count, row in enumerate(everything(engine, wanted), 1):  # noqa: B007 - told below
            lines.write(json.dumps(record_of(row) | {"message": row.message}) + "\n")
    with transaction(engine) as session:
        _note_reading(session, wanted, events=count, file=str(file.resolve()))
    typer.echo(f"{count} events are in {file}.")


@audit.command()
def verify(
    context: typer.Context,
    head: Annotated[
        str, typer.Option(help="A head that was noted elsewhere, by the syslog server for example.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Compute the chain of the audit trail again; exit code 1 when it was changed."""
    from db.audit_chain import verify as compute  # noqa: PLC0415 - when called

    verdict = compute(open_database(settings_of(context)), head.strip().lower())
    if as_json:
        typer.echo(json.dumps({"ok": not verdict.problems, **vars(verdict)}, indent=2))
    else:
        _tell(verdict)
    if verdict.problems:
        raise typer.Exit(1)


def _wanted(
    since: datetime | None, until: datetime | None, action: str, actor: str, subject: str, failed: bool
) -> "Wanted":
    from db.audit_trail import Wanted  # noqa: PLC0415 - when called

    return Wanted(_aware(since), _aware(until), action, actor, subject, failed)


def _aware(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def _note_reading(session: Any, wanted: "Wanted", **told: Any) -> None:
    from db.audit import record  # noqa: PLC0415 - when called

    now, filters = datetime.now(UTC), wanted.named()
    record(session, "audit trail read", "lungnode:audit_events", now, filters=filters, **told)


def _tell(verdict: "Verdict") -> None:
    for problem in verdict.problems:
        typer.echo(problem, err=True)
    state = "is not whole" if verdict.problems else "is whole"
    known = {True: " The head that was asked for is in it.", False: "", None: ""}[verdict.is_head_known]
    typer.echo(
        f"The audit trail {state}: {verdict.events} events in {verdict.batches} batches, "
        f"{verdict.unchained} not chained yet.{known}\nIts head is {verdict.head}."
    )


def _print_table(records: list[dict[str, Any]]) -> None:
    from rich.markup import escape  # noqa: PLC0415 - when called
    from rich.table import Table  # noqa: PLC0415 - when called

    table = Table(box=None)
    for name in ("id", "at", "actor", "action", "subject", "outcome", "details"):
        table.add_column(name, overflow="fold")
    for record in records:
        told = ", ".join(f"{name} {value}" for name, value in record["details"].items())
        cells = (record["id"], record["at"], record["actor"], record["action"], record["subject"])
        table.add_row(*(escape(str(cell)) for cell in (*cells, record["outcome"], told)))
    wide_console().print(table)
