"""Commands: train."""

from pathlib import Path
from typing import Annotated, Final

import typer

from lungnode.cli import settings_of

DEFAULT_RECIPE: Final = "paper"


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(train)


def train(  # noqa: PLR0913, PLR0917 - one parameter an option
    context: typer.Context,
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE.toml", help="Every number: paper, best or a file.")
    ] = DEFAULT_RECIPE,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one: training.epochs=3. Repeatable."),
    ] = None,
    init: Annotated[
        str, typer.Option(metavar="FILE|random|imagenet", help="First weights, instead of the recipe's.")
    ] = "",
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Slices with label, patient, study, split.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the slices that the lists name; of a moved run's."),
    ] = None,
    positives: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of positive slices, one a line.")
    ] = None,
    negatives: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of negative slices, one a line.")
    ] = None,
    validation_positives: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same of the validation split, else drawn.")
    ] = None,
    validation_negatives: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same of the validation split, else drawn.")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Columns file and patient; others are attributes.")
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out slices that cannot be read, and name them.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; by default below the data folder.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model; by default the recipe's.")] = "",
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped or killed.")
    ] = None,
    folds: Annotated[
        int, typer.Option(metavar="K", help="Only measure, by cross-validation over patients; no model.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train a model on labelled slices: of the archive's studies, or of files. For research use."""
    from lungnode.cli._trained import Source, Wanted, run, run_again  # noqa: PLC0415 - when called

    validation = (validation_positives, validation_negatives)
    source = Source(manifest, images, positives, negatives, validation, patients, skip_unreadable)
    wanted = Wanted(recipe, tuple(set_ or ()), init, out, name, folds)
    problem = source.problem(resume=resume is not None) or wanted.problem(resume=resume is not None)
    if problem:
        raise typer.BadParameter(problem)
    settings = settings_of(context)
    if resume:
        run_again(settings, resume, images, as_json=as_json)
    else:
        run(settings, wanted, source, as_json=as_json)
