"""Commands: receive."""

import os

import typer

from lungnode.cli import settings_of


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(receive)


def receive(context: typer.Context) -> None:
    """Receive DICOM instances into the spool, until SIGTERM or Ctrl-C."""
    # pydicom imports numpy, whose threads a process that forks should not have.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from daemon.receiver.server import serve  # noqa: PLC0415 - only this command loads its program

    serve(settings_of(context))
