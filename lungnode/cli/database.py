"""Commands: db."""

import typer

from lungnode.cli import settings_of

database = typer.Typer(help="Look after the database.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(database, name="db")


@database.command("upgrade")
def upgrade_tables(context: typer.Context) -> None:
    """Bring the tables to this version; the programs do so themselves when they start."""
    from db.session import open_engine, upgrade  # noqa: PLC0415 - see the module of the command line

    engine = open_engine(settings_of(context).database)
    upgrade(engine)
    engine.dispose()
    typer.echo("The database is up to date.")
