"""Commands: classify."""

from pathlib import Path
from typing import Annotated

import typer

from lungnode.cli import settings_of


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(classify)


def classify(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        # Unreadable ones are items of the answer, beside those that can be read.
        typer.Argument(
            metavar="PATH", readable=False, help="DICOM folders, DICOM slices, JPEG or PNG files."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    heatmap: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write heatmaps (PNG) into this folder.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write Structured Reports (DICOM) into this folder.")
    ] = None,
) -> None:
    """Classify studies and images without a node. For research use."""
    from lungnode.cli._classified import Saved, run  # noqa: PLC0415 - when called

    saved = Saved(heatmap, report)
    if not run(paths, settings_of(context), saved, as_json=as_json):
        raise typer.Exit(1)
