"""Commands: clerk."""

import logging
import os
import threading

import typer

from lungnode.cli import settings_of


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("clerk")(clerk)


def clerk(context: typer.Context) -> None:
    """Index received files, judge completeness, wake the workers; until SIGTERM."""
    from daemon.clerk.main import run, stop_at_signals  # noqa: PLC0415 - see the module of the command line

    stop = threading.Event()
    stop_at_signals(stop)
    run(settings_of(context), stop)
    logging.shutdown()
    # pynetdicom's thread for a peer that never answered would keep the process for the peer's time limit.
    os._exit(0)
