"""What `lungnode evaluate` does: find models, measure, show, save."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db.registry import find_model, place_of
from db.session import transaction
from lungnode.cli._known import SHIPPED, place_in_use
from lungnode.cli._progress import shown
from lungnode.cli._test_data import EVERYTHING, Found, Source, collect
from lungnode.cli.studies import open_database
from lungnode.errors import UnavailableError
from lungnode.model_folder import SHIPPED_MODEL, Place, verified
from lungnode.runtime import Model, open_model
from lungnode.settings import Settings
from trainer.card import FIGURES, cell
from trainer.compression import Price, price_of_compression
from trainer.document import FEW, Level, document
from trainer.evaluate import Evaluation, evaluate, main_split, part
from trainer.registry import candidate_folder
from trainer.samples import Split

__all__ = ["Found", "Output", "Source", "collect", "evaluate_at", "find_place", "run"]

RESEARCH_USE: Final = "Research use only. Not for diagnostic use."
WIDE: Final = 120  # columns of a table that goes into a file or a pipe


@dataclass(frozen=True)
class Output:
    """What is made of the measurements."""

    studies: bool | None
    report: Path | None
    as_json: bool


def run(settings: Settings, wanted: Sequence[str], source: Source, output: Output) -> None:
    """Measure each model on the samples and show the figures.

    Raises:
        UnusableError: A list, an image or a model cannot be used, or a class is empty.
        UnavailableError: A file or the database is away, or the report cannot be written.
    """
    places = [find_place(settings, name) for name in wanted]
    for place in places:
        verified(place)
    if output.report:
        _check_place(output.report)
    found = collect(settings, source)
    split = None if source.split in ("", EVERYTHING) else Split(source.split)
    measure_and_show(settings, places, found, output, split)


def measure_and_show(
    settings: Settings, places: Sequence[Place], found: Found, output: Output, split: Split | None = None
) -> None:
    """Measure each model on the samples and show the figures of a split, by default the one that counts.

    Raises:
        UnusableError: An image or a model cannot be used.
        UnavailableError: A file is away, or the report cannot be written.
    """
    for note in found.notes:
        sys.stderr.write(f"{note}\n")
    measured = [_measure(_load(place, settings), found, priced=bool(output.report)) for place in places]
    if output.report:
        _write_report(measured, found, output.report)
    level: Level = "studies" if output.studies or (output.studies is None and found.test_set) else "slices"
    shown_split = split or main_split(found.samples)
    documents = [document(part(evaluation, shown_split), level) for evaluation, _ in measured]
    if output.as_json:
        first, *others = documents
        sys.stdout.write(json.dumps(first | ({"others": others} if others else {}), indent=2) + "\n")
    else:
        _print(documents)


def _check_place(path: Path) -> None:
    """See that the report can be written before hours are spent on it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"The report {path} cannot be written: {error.strerror}.") from error


def find_place(settings: Settings, wanted: str) -> Place:
    """Find a model: a folder, a run's folder, a name of the registry; without any, the one in use."""
    if wanted and Path(wanted).is_dir():
        return Place(candidate_folder(Path(wanted)))
    if wanted == SHIPPED:
        return Place(SHIPPED_MODEL)
    if not wanted:
        return place_in_use(settings)
    with transaction(open_database(settings)) as session:
        return place_of(find_model(session, wanted), settings)


def evaluate_at(place: Place, settings: Settings, found: Found) -> Evaluation:
    """Load a model and measure it.

    Raises:
        UnusableError: The model or an image cannot be used.
        UnavailableError: An image is away.
    """
    verified(place)
    evaluation, _ = _measure(_load(place, settings), found, priced=False)
    return evaluation


def _load(place: Place, settings: Settings) -> Model:
    with shown() as progress:
        progress.begin("load the model", 1)
        return open_model(place.folder, settings)


def _measure(model: Model, found: Found, *, priced: bool) -> tuple[Evaluation, Sequence[Price]]:
    """Measure a model, and what compression costs it."""
    with shown() as progress:
        evaluation = evaluate(model, found.samples, progress)
        main = part(evaluation, main_split(evaluation.samples))
        prices = price_of_compression(model, main.samples, progress=progress) if priced else []
    digest = found.digest or evaluation.digest
    return replace(evaluation, digest=digest, test_set=found.test_set), prices


def _write_report(measured: Sequence[tuple[Evaluation, Sequence[Price]]], found: Found, path: Path) -> None:
    from trainer.report import Extras, write_report  # noqa: PLC0415 - Matplotlib takes its time

    prices = {evaluation.info.digest: prices for evaluation, prices in measured}
    extras = Extras(found.everything, prices, found.notes, datetime.now(UTC))
    write_report([evaluation for evaluation, _ in measured], path, extras)


def _print(documents: Sequence[Mapping[str, Any]]) -> None:
    """Print the figures for a person: a column a model."""
    first = documents[0]
    table = Table(
        title=f"{first['n']} {first['level']}, {first['positive']} positive, {first['groups']} patients"
    )
    table.add_column("")
    for found in documents:
        table.add_column(escape(found["model"].partition(" (")[0]), justify="right")
    for key in FIGURES:
        table.add_row(key, *(cell(found[key], found["confidence_intervals"][key]) for found in documents))
    table.add_row("threshold", *(f"{found['threshold']:.3f}" for found in documents))
    console = Console() if Console().is_terminal else Console(width=WIDE)
    console.print(table)
    if any(found["few_patients"] for found in documents):
        console.print(f"A class has fewer than {FEW} patients: do not draw conclusions.")
    console.print(f"In brackets: 95 % interval by a bootstrap over patients. {RESEARCH_USE}")
