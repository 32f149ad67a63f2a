"""Commands: web."""

import typer

from lungnode.cli import settings_of


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(web)


def web(context: typer.Context) -> None:
    """Serve pages, REST, DICOMweb and metrics, until SIGTERM or Ctrl-C."""
    from daemon.web.server import serve  # noqa: PLC0415 - only this command loads its program

    serve(settings_of(context))
