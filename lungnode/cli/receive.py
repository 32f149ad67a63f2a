"""Commands: receive."""

import typer

from lungnode.cli import settings_of


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(receive)


def receive(context: typer.Context) -> None:
    """Receive DICOM instances into the spool, until SIGTERM or Ctrl-C."""
    from daemon.receiver.server import serve  # noqa: PLC0415 - only this command loads its program

    serve(settings_of(context))
