"""Commands: studies retention, hold, release."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from lungnode.cli import settings_of
from lungnode.cli.studies import AsJson, Uid, open_database, studies
from lungnode.settings import RetentionSettings


def register(_app: typer.Typer) -> None:
    """Add these commands to those of studies."""
    studies.command()(retention)
    studies.command()(hold)
    studies.command()(release)


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


def _set_hold(context: typer.Context, uid: str, reason: str) -> None:
    from db.changes import set_hold  # noqa: PLC0415 - when called
    from db.queries import get_study  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    with transaction(open_database(settings_of(context))) as session:
        set_hold(session, get_study(session, uid), reason, datetime.now(UTC))
