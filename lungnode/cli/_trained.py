"""What `lungnode train` does: find recipe and slices, make or take up a run, train, tell what came of it."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from db.session import transaction
from lungnode.cli._fast import try_to_make_fast
from lungnode.cli._progress import shown
from lungnode.cli.studies import open_database
from lungnode.cli.train import DEFAULT_RECIPE
from lungnode.deidentify.pseudonyms import open_pseudonyms
from lungnode.errors import UnusableError
from lungnode.recipe import Recipe
from lungnode.runtime import load_tensorflow
from lungnode.settings import Settings
from lungnode.store import open_archive
from trainer.archive import read_archive, select_training
from trainer.cache import Cache
from trainer.dataset import Dataset, Draw
from trainer.dataset import collect as collect_samples
from trainer.image_lists import ImageLists, read_image_lists
from trainer.manifest import read_manifest
from trainer.recipes import load_recipe
from trainer.registry import check_name
from trainer.samples import Collection, Split

if TYPE_CHECKING:
    from trainer.run_folder import RunFolder


TOLD: Final = 20  # exclusions that are told one by one


@dataclass(frozen=True)
class Source:
    """Where the slices come from: a manifest, lists, or, without either, the archive."""

    manifest: Path | None = None
    images: Path | None = None
    positives: Path | None = None
    negatives: Path | None = None
    validation: tuple[Path | None, Path | None] = (None, None)  # positives and negatives
    patients: Path | None = None
    skip_unreadable: bool = False

    def problem(self, *, resume: bool) -> str:
        """Say what is wrong with the choice; empty when nothing is."""
        named = (self.positives, self.negatives, *self.validation, self.patients)
        if resume:
            return (
                "--resume knows its slices; --images says where they lie now."
                if any((self.manifest, *named))
                else ""
            )
        lists = (self.images, self.positives, self.negatives)
        if self.manifest and (any(lists) or any(named)):
            return "Name either --manifest, or --images with --positives and --negatives."
        if any((*lists, *named)) and not all(lists):
            return "--images, --positives and --negatives belong together."
        return (
            "" if all(self.validation) or not any(self.validation) else "Name both validation lists or none."
        )


@dataclass(frozen=True)
class Wanted:
    """What is to be trained."""

    recipe: str
    overrides: tuple[str, ...]
    init: str
    out: Path | None
    name: str
    folds: int

    def problem(self, *, resume: bool) -> str:
        """Say what is wrong with the choice; empty when nothing is."""
        if self.folds == 1 or self.folds < 0:
            return f"--folds is at least 2, got {self.folds}."
        if self.folds and (resume or self.name or self.out):
            return "--folds measures only: it goes with none of --resume, --name and --out."
        chosen = (self.recipe != DEFAULT_RECIPE, self.overrides, self.init, self.out, self.name)
        if resume and any(chosen):
            return (
                "A run has its recipe: --resume goes with none of --recipe, --set, --init, --out and --name."
            )
        return ""


def run(settings: Settings, wanted: Wanted, source: Source, *, as_json: bool) -> None:
    """Train from the begin.

    Raises:
        UnusableError: The recipe, the slices or the first weights cannot be used: nothing is written.
        UnavailableError: A file or the database is away.
    """
    recipe = _recipe(wanted)
    name = wanted.name or recipe.name
    check_name("name", name)
    dataset = find_dataset(settings, source, recipe)
    load_tensorflow()
    if wanted.folds:
        _measure(settings, wanted, dataset, recipe, as_json=as_json)
        return
    from trainer.run_folder import RunInfo  # noqa: PLC0415 - TensorFlow is loaded quietly first
    from trainer.train import begin  # noqa: PLC0415

    info = RunInfo(name=name, version=datetime.now(UTC).strftime("%Y%m%d.%H%M%S"))
    folder = wanted.out or settings.data / "runs" / f"{info.name}-{info.version}"
    made = begin(folder, info, recipe, dataset.samples, weights_folder(settings, recipe))
    _train(settings, made, dataset, as_json=as_json)


def run_again(settings: Settings, folder: Path, images: Path | None, *, as_json: bool) -> None:
    """Go on with a run from its last checkpoint.

    Args:
        settings: Of this node.
        folder: Of the run.
        images: Where its slices lie now, when they were moved.
        as_json: Print one JSON document.

    Raises:
        UnusableError: It is no run, or a file of it is damaged.
        UnavailableError: A slice is away, or another program trains it.
    """
    load_tensorflow()
    from trainer.run_folder import RunFolder  # noqa: PLC0415 - TensorFlow is loaded quietly first

    found = RunFolder(folder)
    found.info()
    _train(settings, found, Dataset(tuple(found.samples(images)), (), ()), as_json=as_json)


def _recipe(wanted: Wanted) -> Recipe:
    recipe = load_recipe(wanted.recipe, wanted.overrides)
    if not wanted.init:
        return recipe
    return recipe.model_copy(update={"network": recipe.network.model_copy(update={"init": wanted.init})})


def weights_folder(settings: Settings, recipe: Recipe) -> Path:
    """Return the folder that the recipe's weights are in: this one, or the node's own of weights."""
    return Path() if Path(recipe.network.init).exists() else settings.data / "weights"


def find_dataset(settings: Settings, source: Source, recipe: Recipe) -> Dataset:
    """Read every slice once, and draw splits where no list names them; tell what was left out.

    Raises:
        UnusableError: A list or a slice cannot be used, or a class is empty.
        UnavailableError: A file or the database is away.
    """
    draw = Draw(recipe.data.validation_share, recipe.training.seed)
    found = _collection(settings, source, recipe)
    dataset = collect_samples([found], draw, skip_unreadable=source.skip_unreadable)
    for line in (*dataset.notes, *_left_out(dataset)):
        sys.stderr.write(f"{line}\n")
    return dataset


def _collection(settings: Settings, source: Source, recipe: Recipe) -> Collection:
    if source.manifest:
        return Collection(tuple(read_manifest(source.manifest)))
    if source.images and source.positives and source.negatives:
        return read_image_lists(
            ImageLists(source.images, source.positives, source.negatives, *source.validation, source.patients)
        )
    return _of_archive(settings, recipe)


def _of_archive(settings: Settings, recipe: Recipe) -> Collection:
    """Read every study that may be trained on, into the cache."""
    with transaction(open_database(settings)) as session:
        selection = select_training(
            session, open_archive(settings), recipe.data.label_policy, open_pseudonyms(settings.data)
        )
    if not selection.studies:
        first = "".join(f" {each.what} is left out: {each.reason}" for each in selection.exclusions[:1])
        raise UnusableError(
            f"No study of the archive can be trained on; `lungnode labels import` labels them.{first}"
        )
    cache = Cache(settings.cache / "studies", recipe.input.jpeg_quality)
    with shown() as progress:
        return read_archive(selection, cache, os.cpu_count() or 1, progress)


def _left_out(dataset: Dataset) -> Iterator[str]:
    for exclusion in dataset.exclusions[:TOLD]:
        yield f"Left out {exclusion.what}: {exclusion.reason}"
    if len(dataset.exclusions) > TOLD:
        yield f"Left out {len(dataset.exclusions) - TOLD} more."


def train_run(settings: Settings, found: "RunFolder", dataset: Dataset) -> Path:
    """Train a run to its end; Ctrl-C and SIGTERM stop it behind its last checkpoint.

    Raises:
        UnusableError: A slice or what was learnt cannot be used, or it was stopped.
        UnavailableError: A slice is away, or another program trains it.
    """
    from trainer.train import train  # noqa: PLC0415 - TensorFlow is loaded quietly first

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with shown() as progress:
            return train(found, dataset.samples, settings.cache / "features", progress)
    except KeyboardInterrupt:
        raise UnusableError(f"Stopped. To go on: lungnode train --resume {found.path}") from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(settings: Settings, found: "RunFolder", dataset: Dataset, *, as_json: bool) -> None:
    model = train_run(settings, found, dataset)
    try_to_make_fast(model, dataset.samples)
    _tell(found, model, as_json=as_json)


def _measure(settings: Settings, wanted: Wanted, dataset: Dataset, recipe: Recipe, *, as_json: bool) -> None:
    """Cross-validate over the samples of training and validation, never of a test, and print the figures."""
    from trainer.card import figures_table  # noqa: PLC0415
    from trainer.cross_validation import Trial, cross_validate  # noqa: PLC0415
    from trainer.experiment import held_out_figures  # noqa: PLC0415
    from trainer.workbench import open_bench  # noqa: PLC0415 - TensorFlow is loaded quietly first

    weights = weights_folder(settings, recipe)
    samples = [sample for sample in dataset.samples if sample.split is not Split.TEST]
    with shown() as progress:
        named = recipe.network.init
        first = weights / named if (weights / named).exists() else None
        bench = open_bench(recipe, settings.cache / "features", progress, first)
        trial = Trial(recipe, bench, settings.cache / "cross-validation")
        found = cross_validate(samples, wanted.folds, recipe.training.seed, trial)
    measured = held_out_figures(found)
    if as_json:
        told = {"recipe": recipe.model_dump(mode="json"), "folds": wanted.folds, **measured}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        sys.stdout.write(figures_table({f"{wanted.folds} folds of patients": measured}) + "\n")


def _tell(found: "RunFolder", model: Path, *, as_json: bool) -> None:
    from lungnode.model_folder import describe_model, read_metrics  # noqa: PLC0415 - when called

    info, metrics = describe_model(model), read_metrics(model)
    if as_json:
        told: dict[str, Any] = {
            "run": str(found.path),
            "model": str(model),
            "name": info.name,
            "version": info.version,
            "threshold": info.threshold,
            **metrics,
        }
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    sys.stdout.write(
        f"The candidate {info.name} {info.version} is in {model}.\n"
        f"Look at its card: {model / 'README.md'}\n"
        f"Measure it: lungnode evaluate --model {model} ...\n"
        f"Use it: lungnode models promote {found.path} --test-set NAME\n"
    )
