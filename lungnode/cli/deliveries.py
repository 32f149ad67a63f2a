"""Commands: deliveries list, deliveries retry."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lungnode.cli import settings_of
from lungnode.cli.studies import open_database
from lungnode.cli.study_views import confirmation_record, wide_console

if TYPE_CHECKING:
    from db.models import Delivery

_COLUMNS: Final = (
    "id",
    "study_instance_uid",
    "revision",
    "destination",
    "group",
    "state",
    "attempts",
    "reason",
    "next_step",
)
deliveries = typer.Typer(help="Results on their way to their destinations.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(deliveries, name="deliveries")


@deliveries.command("list")
def list_(
    context: typer.Context,
    state: Annotated[list[str] | None, typer.Option(help="Only these states, for example dead.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List deliveries, the newest first."""
    from db.deliveries import list_deliveries  # noqa: PLC0415 - when called
    from db.models import DeliveryState  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    known = [str(each) for each in DeliveryState]
    if unknown := set(state or ()) - set(known):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the states are {', '.join(known)}.")
    settings = settings_of(context)
    attempts = settings.delivery.max_attempts
    with transaction(open_database(settings)) as session:
        records = [_record(row, attempts) for row in list_deliveries(session, state or (), limit)]
    if as_json:
        typer.echo(json.dumps({"deliveries": records}, indent=2))
    else:
        _print_table(records)


@deliveries.command()
def retry(
    context: typer.Context,
    ids: Annotated[list[int] | None, typer.Argument(help="Which ones, by their number.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are refused or dead.")] = False,
) -> None:
    """Send refused and dead deliveries again; the clerk wakes a worker for them within seconds."""
    from db.deliveries import retry as make_due  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    if bool(ids) == every:
        raise typer.BadParameter("Name the deliveries by their numbers, or say --all.")
    with transaction(open_database(settings_of(context))) as session:
        restarted = make_due(session, None if every else ids or [], datetime.now(UTC))
    typer.echo(f"Due again: {', '.join(map(str, restarted)) or 'none'}.")
    if missing := set(ids or ()) - set(restarted):
        typer.echo(f"Not refused or dead, so left alone: {', '.join(map(str, sorted(missing)))}.", err=True)
        raise typer.Exit(1)


def _record(row: "Delivery", max_attempts: int) -> dict[str, Any]:
    from db.deliveries import next_step  # noqa: PLC0415 - when called

    return {
        "id": row.id,
        "study_instance_uid": row.analysis.study.study_instance_uid,
        "revision": row.analysis.revision,
        "destination": row.destination,
        "group": row.group,
        "state": row.state,
        "priority": row.priority,
        "attempts": row.attempts,
        "due_at": row.due_at.isoformat(),
        "finished_at": row.finished_at.isoformat() if row.finished_at else None,
        "reason": row.reason,
        "next_step": next_step(row, max_attempts),
        "confirmation": confirmation_record(row),
        "instances": row.instances,
    }


def _print_table(records: list[dict[str, Any]]) -> None:
    from rich.markup import escape  # noqa: PLC0415 - when called
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None)
    for name in _COLUMNS:
        table.add_column(name.replace("_", " "), overflow="fold")
    for record in records:
        # Reasons quote peers: they are text, not markup.
        table.add_row(*(escape(str(record[name])) for name in _COLUMNS))
    wide_console().print(table)
