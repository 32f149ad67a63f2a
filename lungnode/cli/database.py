"""Commands: db."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from lungnode.cli import settings_of
from lungnode.errors import UnavailableError, UnusableError

database = typer.Typer(help="Look after the database.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(database, name="db")


@database.command()
def reader(
    context: typer.Context,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="A role of the PostgreSQL server.")],
) -> None:
    """Let a PostgreSQL role read the views of docs/results.md, and nothing else."""
    from sqlalchemy import inspect, text  # noqa: PLC0415 - when called

    from db.session import open_engine, upgrade  # noqa: PLC0415
    from db.views import grant  # noqa: PLC0415

    engine = open_engine(settings_of(context).database)
    if engine.dialect.name != "postgresql":
        raise UnusableError("SQLite has no roles: open its file with mode=ro instead.")
    upgrade(engine)
    with engine.begin() as connection:
        known = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
        if not known:
            raise UnusableError(f"There is no role {role}; make it with CREATE ROLE, as the server's owner.")
        grant(connection, role)
        names = ", ".join(sorted(inspect(connection).get_view_names()))
    engine.dispose()
    typer.echo(f"{role} may read {names}.")


@database.command("copy")
def copy_rows_of(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="SQLAlchemy URL of the database to copy.")],
) -> None:
    """Copy all rows of another database into the empty one of the settings: from SQLite to PostgreSQL."""
    from db.session import open_engine  # noqa: PLC0415 - see the module of the command line
    from db.transfer import copy_rows  # noqa: PLC0415
    from lungnode.cli._programs import running_programs  # noqa: PLC0415
    from lungnode.supervisor import sole_owner  # noqa: PLC0415

    settings = settings_of(context)
    source, target = open_engine(url), open_engine(settings.database)
    with (
        sole_owner(settings.data),
        Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar,
    ):
        running = running_programs(settings.data)
        if running:
            raise UnavailableError(f"{', '.join(running)} runs on {settings.data}: stop it first.")
        task = bar.add_task("Copying", total=None)
        counts = copy_rows(
            source,
            target,
            lambda table, done: bar.update(task, description=f"Copying {table}", completed=done),
        )
    for engine in (source, target):
        engine.dispose()
    typer.echo(
        f"{sum(counts.values())} rows of {len(counts)} tables are copied, {counts['studies']} studies."
    )


@database.command("upgrade")
def upgrade_tables(context: typer.Context) -> None:
    """Bring the tables to this version; the programs do so themselves when they start."""
    from db.session import open_engine, upgrade  # noqa: PLC0415 - see the module of the command line

    engine = open_engine(settings_of(context).database)
    upgrade(engine)
    engine.dispose()
    typer.echo("The database is up to date.")
