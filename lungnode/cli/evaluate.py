"""Commands: evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from lungnode.cli import settings_of


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(evaluate)


def evaluate(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR|NAME", help="Model; without it the one in use. Several are compared."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the slices that the two lists name.")
    ] = None,
    positives: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of positive slices, one a line.")
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of negative slices, one a line.")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Columns file and patient; others are attributes.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Slices with label, patient, study, split.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="Of the manifest: train, validation, test or all; test if there is one."),
    ] = "",
    test_set: Annotated[
        str, typer.Option(metavar="NAME", help="A frozen test set of the archive, instead of files.")
    ] = "",
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out slices that cannot be read, and name them.")
    ] = False,
    studies: Annotated[
        bool | None,
        typer.Option("--studies/--slices", help="What to measure; slices, and studies of a test set."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="OUT.html", help="Write a report with all tables and figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure models on labelled slices or studies. For research use."""
    from lungnode.cli._evaluated import Output, Source, run  # noqa: PLC0415 - when called

    source = Source(images, positives, negatives, patients, manifest, split, test_set, skip_unreadable)
    problem = source.problem()
    if problem:
        raise typer.BadParameter(problem)
    run(settings_of(context), model or [""], source, Output(studies, report, as_json))
