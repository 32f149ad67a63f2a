"""What `lungnode paper` does: a run for each network on the same slices, and one report of their test."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lungnode.cli import _evaluated, _test_data
from lungnode.cli._trained import Source, find_dataset, train_run, weights_folder
from lungnode.errors import UnusableError
from lungnode.model_folder import Place
from lungnode.recipe import Recipe
from lungnode.runtime import load_tensorflow
from lungnode.settings import Settings
from trainer.dataset import Dataset
from trainer.recipes import load_recipe
from trainer.samples import Split

REPORT: Final = "report.html"


@dataclass(frozen=True)
class Experiment:
    """What is to be compared."""

    networks: tuple[str, ...]
    recipe: str
    changes: tuple[str, ...]  # each KEY=VALUE of all networks, or NETWORK:KEY=VALUE of one
    out: Path

    def recipes(self) -> dict[str, Recipe]:
        """Return each network's recipe.

        Raises:
            UnusableError: There is no such recipe, or a change does not fit.
        """
        return {
            network: load_recipe(self.recipe, [f"network.backbone={network}", *self._changes_of(network)])
            for network in self.networks
        }

    def _changes_of(self, network: str) -> Iterator[str]:
        for change in self.changes:
            key, equals, value = change.partition("=")
            of, _, own = key.rpartition(":")
            if of in ("", network):
                yield f"{own}{equals}{value}"


def run(
    settings: Settings, wanted: Experiment, manifest: Path | None, test_set: str, *, as_json: bool
) -> None:
    """Train each network, or go on with it, and measure all of them on what none was trained on.

    Raises:
        UnusableError: The recipe, the slices or first weights cannot be used.
        UnavailableError: A file or the database is away.
    """
    recipes = wanted.recipes()
    dataset = find_dataset(settings, Source(manifest=manifest), next(iter(recipes.values())))
    tested = _test_data.Source(manifest=manifest, split="test" if manifest else "", test_set=test_set)
    found = _test_data.collect(settings, tested)  # before hours are spent
    learnt = [sample for sample in dataset.samples if sample.split is not Split.TEST]
    load_tensorflow()
    models = [_train(settings, wanted.out / network, recipe, dataset) for network, recipe in recipes.items()]
    output = _evaluated.Output(studies=None, report=wanted.out / REPORT, as_json=as_json)
    whole = replace(found, everything=(*learnt, *found.samples))
    _evaluated.measure_and_show(settings, models, whole, output)
    sys.stderr.write(f"The report is {wanted.out / REPORT}.\n")


def _train(settings: Settings, folder: Path, recipe: Recipe, dataset: Dataset) -> Place:
    """Make a run or take it up; return where its model lies."""
    from trainer.bench import with_init  # noqa: PLC0415
    from trainer.manifest import digest_samples  # noqa: PLC0415
    from trainer.run_folder import RunFolder, RunInfo  # noqa: PLC0415 - TensorFlow is loaded quietly first
    from trainer.train import as_learnt, begin  # noqa: PLC0415

    found, learnt = RunFolder(folder), as_learnt(dataset.samples, recipe)
    named = with_init(recipe, Path(recipe.network.init).name)
    if folder.exists():
        same = found.recipe() == named and digest_samples(found.samples()) == digest_samples(learnt)
        if not same:
            raise UnusableError(
                f"The run {folder} is of another recipe or of other slices; name another --out."
            )
    else:
        info = RunInfo(name=folder.name, version=datetime.now(UTC).strftime("%Y%m%d.%H%M%S"))
        found = begin(folder, info, recipe, dataset.samples, weights_folder(settings, recipe))
    return Place(train_run(settings, found, dataset))
