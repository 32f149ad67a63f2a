"""Commands: db."""

from typing import Annotated

import typer

from lungnode.cli import settings_of
from lungnode.errors import UnusableError

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


@database.command("upgrade")
def upgrade_tables(context: typer.Context) -> None:
    """Bring the tables to this version; the programs do so themselves when they start."""
    from db.session import open_engine, upgrade  # noqa: PLC0415 - see the module of the command line

    engine = open_engine(settings_of(context).database)
    upgrade(engine)
    engine.dispose()
    typer.echo("The database is up to date.")
