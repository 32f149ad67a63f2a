"""Commands: worker."""

from enum import StrEnum
from typing import Annotated

import typer

from lungnode.cli import settings_of


class Queue(StrEnum):
    """What a worker works on."""

    ANALYSIS = "analysis"
    DELIVERY = "delivery"


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(worker)


def worker(
    context: typer.Context,
    queue: Annotated[Queue, typer.Option(help="What to work on: studies, or results on their way.")],
) -> None:
    """Analyse studies, or deliver results, until SIGTERM."""
    from worker.tasks import serve  # noqa: PLC0415 - see the module of the command line

    raise typer.Exit(serve(settings_of(context), queue.value))
