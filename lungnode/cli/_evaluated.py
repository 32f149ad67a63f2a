"""What `lungnode evaluate` does: find samples and models, measure, show, save."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.progress import TaskID
from rich.table import Table
from sqlalchemy import make_url

from db.label_policy import DEFAULT_POLICY
from db.registry import find_model, model_in_use, place_of
from db.session import transaction
from db.test_sets import read_test_set
from lungnode.cli.studies import open_database
from lungnode.errors import SettingsError, UnusableError
from lungnode.model_folder import SHIPPED_MODEL, Place, verified
from lungnode.runtime import load_model
from lungnode.settings import Settings
from trainer.archive import read_archive, select_test_set
from trainer.cache import Cache
from trainer.card import FIGURES, cell
from trainer.compression import price_of_compression
from trainer.document import Level, document
from trainer.evaluate import Evaluation, evaluate, main_split, part
from trainer.image_lists import ImageLists, read_image_lists
from trainer.manifest import read_manifest
from trainer.registry import candidate_folder
from trainer.samples import NEGATIVE, POSITIVE, Sample, Split
from trainer.splits import check_labels

RESEARCH_USE: Final = "Research use only. Not for diagnostic use."
EVERYTHING: Final = "all"
LOSSLESS: Final = "lossless"  # below the cache: studies of test sets
SHIPPED: Final = "shipped"  # name of the model that Lungnode comes with
WIDE: Final = 120  # columns of a table that goes into a file or a pipe


@dataclass(frozen=True)
class Source:
    """Where the samples come from: lists, a manifest or a frozen test set; one of them."""

    images: Path | None
    positives: Path | None
    negatives: Path | None
    patients: Path | None
    manifest: Path | None
    split: str
    test_set: str

    def problem(self) -> str:
        """Say what is wrong with the choice; empty when nothing is."""
        lists = (self.images, self.positives, self.negatives)
        if sum((any(lists), self.manifest is not None, bool(self.test_set))) != 1:
            return "Name one of: --images with --positives and --negatives, --manifest, --test-set."
        if any(lists) and not all(lists):
            return "--images, --positives and --negatives belong together."
        if self.patients and not self.images:
            return "--patients belongs to --images."
        if self.split and (not self.manifest or self.split not in (*Split, EVERYTHING)):
            return f"--split belongs to --manifest and is one of {', '.join((*Split, EVERYTHING))}."
        return ""


@dataclass(frozen=True)
class Output:
    """What is made of the measurements."""

    studies: bool | None
    report: Path | None
    as_json: bool


@dataclass(frozen=True)
class Found:
    """Samples to measure on."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()  # sentences that the operator is told
    everything: tuple[Sample, ...] = ()  # the list that they are a part of, for the tables of the data
    test_set: str = ""  # name of the frozen set, and its digest
    digest: str = ""


def run(settings: Settings, wanted: Sequence[str], source: Source, output: Output) -> None:
    """Measure each model on the samples and show the figures.

    Raises:
        UnusableError: A list, an image or a model cannot be used, or a class is empty.
        UnavailableError: A file or the database is away, or the report cannot be written.
    """
    found = collect(settings, source)
    for note in found.notes:
        sys.stderr.write(f"{note}\n")
    places = [find_place(settings, name) for name in wanted]
    evaluations = [evaluate_at(place, settings, found) for place in places]
    split = main_split(found.samples) if source.split in ("", EVERYTHING) else Split(source.split)
    level: Level = "studies" if output.studies or (output.studies is None and source.test_set) else "slices"
    documents = [document(part(evaluation, split), level) for evaluation in evaluations]
    if output.report:
        _write_report(evaluations, places, settings, found, output.report)
    if output.as_json:
        first, *others = documents
        sys.stdout.write(json.dumps(first | ({"others": others} if others else {}), indent=2) + "\n")
    else:
        _print(documents)


def collect(settings: Settings, source: Source) -> Found:
    """Read the list of samples, and see that there is something to tell apart.

    Raises:
        UnusableError: A list cannot be used, a class is empty, or a file has both labels.
        UnavailableError: A file or the database is away.
    """
    if source.test_set:
        found = _read_test_set(settings, source.test_set)
    elif source.manifest:
        listed = tuple(read_manifest(source.manifest))
        found = Found(tuple(_of_split(listed, source.split)), everything=listed)
    else:
        found = _read_lists(source)
    _check_classes(found.samples, source)
    check_labels(found.samples)
    return found


def _read_lists(source: Source) -> Found:
    if not (source.images and source.positives and source.negatives):
        raise SettingsError(source.problem())
    lists = ImageLists(source.images, source.positives, source.negatives, patients=source.patients)
    listed = read_image_lists(lists, Split.TEST)
    return Found(listed.samples, listed.notes)


def _read_test_set(settings: Settings, name: str) -> Found:
    """Read the studies of a frozen set, without loss: as a worker sees them."""
    with transaction(open_database(settings)) as session:
        frozen = read_test_set(session, name)
        selection = select_test_set(session, settings.archive, name, DEFAULT_POLICY)
    cache = Cache(settings.cache / LOSSLESS, None)
    with _bar() as shown:
        shown.begin("read the studies", len(selection.studies))
        listed = read_archive(selection, cache, os.cpu_count() or 1, shown.reached)
    left_out = [f"Study {each.what} is left out: {each.reason}" for each in listed.exclusions]
    return Found(listed.samples, (*listed.notes, *left_out), test_set=name, digest=frozen.digest)


def _of_split(samples: Sequence[Sample], wanted: str) -> Sequence[Sample]:
    if wanted == EVERYTHING:
        return samples
    split = Split(wanted) if wanted else main_split(samples)
    return [sample for sample in samples if split is None or sample.split is split]


def _check_classes(samples: Sequence[Sample], source: Source) -> None:
    """See that both classes are there.

    Raises:
        UnusableError: One is empty.
    """
    named = {True: source.positives or source.manifest, False: source.negatives or source.manifest}
    for positive, file in named.items():
        if not any(sample.positive is positive for sample in samples):
            word = POSITIVE if positive else NEGATIVE
            where = f"The list {file}" if file else f"The test set {source.test_set}"
            raise UnusableError(f"{where} names no {word} slice; both classes are needed to measure.")


def find_place(settings: Settings, wanted: str) -> Place:
    """Find a model: a folder, a run's folder, a name of the registry; without any, the one in use."""
    if wanted and Path(wanted).is_dir():
        return Place(candidate_folder(Path(wanted)))
    if wanted == SHIPPED:
        return Place(SHIPPED_MODEL)
    database = make_url(settings.database).database if settings.database.startswith("sqlite") else None
    if not wanted and database and not Path(database).exists():
        return Place(settings.analysis.model or SHIPPED_MODEL)
    with transaction(open_database(settings)) as session:
        return place_of(find_model(session, wanted), settings) if wanted else model_in_use(session, settings)


def evaluate_at(place: Place, settings: Settings, found: Found) -> Evaluation:
    """Load a model and measure it.

    Raises:
        UnusableError: The model or an image cannot be used.
        UnavailableError: An image is away.
    """
    verified(place)
    with _bar() as shown:
        model = load_model(place.folder, settings.analysis.batch)
        measured = evaluate(model, found.samples, shown)
    return replace(measured, digest=found.digest or measured.digest, test_set=found.test_set)


def _write_report(
    evaluations: Sequence[Evaluation], places: Sequence[Place], settings: Settings, found: Found, path: Path
) -> None:
    from trainer.report import Extras, write_report  # noqa: PLC0415 - Matplotlib takes its time

    prices = {}
    for evaluation, place in zip(evaluations, places, strict=True):
        samples = part(evaluation, main_split(evaluation.samples)).samples
        with _bar() as shown:
            model = load_model(place.folder, settings.analysis.batch)
            prices[evaluation.info.digest] = price_of_compression(model, samples, progress=shown)
    write_report(evaluations, path, Extras(found.everything, prices, found.notes, datetime.now(UTC)))


@dataclass
class _Shown:
    """Shows how far a measurement is."""

    bar: Bar
    task: TaskID

    def begin(self, what: str, total: int) -> None:
        self.bar.update(self.task, description=what, total=total, completed=0)

    def advance(self, steps: int = 1) -> None:
        self.bar.advance(self.task, steps)

    def reached(self, done: int, total: int) -> None:
        self.bar.update(self.task, completed=done, total=total)

    def say(self, line: str) -> None:
        self.bar.console.print(line, markup=False)


@contextmanager
def _bar() -> Iterator[_Shown]:
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Shown(bar, bar.add_task("load the model", total=None))


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
    console.print(f"In brackets: 95 % interval by a bootstrap over patients. {RESEARCH_USE}")
