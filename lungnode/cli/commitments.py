"""Commands: commitments list, commitments retry."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from lungnode.cli import settings_of
from lungnode.cli.studies import open_database
from lungnode.cli.study_views import commitment_record, wide_console

commitments = typer.Typer(help="What scanners and PACS asked us to commit to.", no_args_is_help=True)
_COLUMNS: Final = ("id", "calling_ae_title", "transaction_uid", "instances", "failed", "state", "reason")


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(commitments, name="commitments")


@commitments.command("list")
def list_(
    context: typer.Context,
    state: Annotated[list[str] | None, typer.Option(help="Only these states, for example dead.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List storage commitment requests, the newest first."""
    from db.commitments import list_requests  # noqa: PLC0415 - when called
    from db.models import CommitmentState  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    known = [str(each) for each in CommitmentState]
    if unknown := set(state or ()) - set(known):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the states are {', '.join(known)}.")
    with transaction(open_database(settings_of(context))) as session:
        records = [commitment_record(row) for row in list_requests(session, state or (), limit)]
    if as_json:
        typer.echo(json.dumps({"commitments": records}, indent=2))
    else:
        _print_table(records)


@commitments.command()
def retry(
    context: typer.Context,
    ids: Annotated[list[int] | None, typer.Argument(help="Which ones, by their number.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are refused or dead.")] = False,
) -> None:
    """Verify refused and dead requests again and report them; the clerk does so within seconds."""
    from db.commitments import retry as make_due  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    if bool(ids) == every:
        raise typer.BadParameter("Name the requests by their numbers, or say --all.")
    with transaction(open_database(settings_of(context))) as session:
        restarted = make_due(session, None if every else ids or [], datetime.now(UTC))
    typer.echo(f"Due again: {', '.join(map(str, restarted)) or 'none'}.")
    if missing := set(ids or ()) - set(restarted):
        typer.echo(f"Not refused or dead, so left alone: {', '.join(map(str, sorted(missing)))}.", err=True)
        raise typer.Exit(1)


def _print_table(records: list[dict[str, Any]]) -> None:
    from rich.markup import escape  # noqa: PLC0415 - when called
    from rich.table import Table  # noqa: PLC0415 - when called

    table = Table(box=None)
    for name in _COLUMNS:
        table.add_column(name.replace("_", " "), overflow="fold")
    for record in records:
        table.add_row(*(escape(str(record[name])) for name in _COLUMNS))
    wide_console().print(table)
