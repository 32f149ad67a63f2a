"""A network on the bench whose head alone is learnt, to its optimum.

Nothing but the head's input is kept of a slice: the mean and the spread of each feature, and the features of
cells. All views of all slices are learnt at once, so there are no epochs and nothing has to be stopped early:
the validation patients are learnt from as well, and what is unseen comes from a cross-validation over all
patients. Imports TensorFlow.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray
from PIL import Image

from lungnode.depth import highest_cells
from lungnode.network import Weights, get_weights, set_weights
from lungnode.network.head import (
    FEATURES,
    HEAD,
    LESION_HIDDEN,
    LESION_MAP,
    LUNG_MAP,
    SPREAD,
    measure_spread,
    pool_cells,
)
from lungnode.pixels import Gray
from lungnode.recipe import Network, Recipe
from trainer.bench import Judged, Save, Task, stack_images
from trainer.blocks import Array
from trainer.checkpoint import Checkpoint, EpochRecord
from trainer.examples import Example
from trainer.features import (
    Case,
    Extract,
    Maker,
    Wanted,
    frozen_digest,
    list_cases,
    make_features,
    open_store,
)
from trainer.folds import grouped_folds
from trainer.lesions import choose_cells, fit_lesions, fit_lung, lesion_maps
from trainer.linear import Linear, fit_linear
from trainer.metrics import Scores, auc
from trainer.neighbours import join_studies
from trainer.plan import balanced_weights, draw_epoch
from trainer.progress import Progress

FOLDS: Final = 5  # of the cross-validation that says what is unseen
SCANS: Final = 6000  # views at most whose cells are looked at for lesions: 1.8 GB
LUNG_SCANS: Final = 1500  # the same, for lung
TOGETHER: Final = 256  # slices whose cells are in memory at once
MEANS, SPREADS, CELLS, DENSITIES, LUNGS = range(5)  # the arrays that are kept of a slice


class Probe:
    """A network with its store of what the head reads."""

    def __init__(self, recipe: Recipe, network: Any, cache: Path, progress: Progress) -> None:
        """Open the store.

        Args:
            recipe: Of the training.
            network: From `first_network`.
            cache: Folder of all stores of features.
            progress: Hears what is done.

        Raises:
            UnavailableError: The cache cannot be used.
        """
        self._recipe, self.network, self._progress = recipe, network, progress
        pooled = pool_network(network, recipe.network)
        store = open_store(cache, recipe, f"{frozen_digest(get_weights(pooled))} pooled")
        self._maker = Maker(recipe, store, _extractor(pooled, recipe), progress)
        self._unseen: dict[int, Judged] = {}

    def fit(self, task: Task, done: Checkpoint | None = None, save: Save = lambda _: None) -> Checkpoint:
        """Fit the head; afterwards the network has its weights. What is done already is not done again.

        Raises:
            UnusableError: A slice cannot be read.
            UnavailableError: A slice is away, or the disk is full.
        """
        begin, cpu = perf_counter(), process_time()
        cases = self._learnt(task)
        judged = self._cross_validate(cases)
        self._unseen = {id(task): judged}
        head = done.best if done and done.best else self._solve(cases)
        set_weights(self.network, get_weights(self.network) | head)
        spent = (perf_counter() - begin, process_time() - cpu)
        checkpoint = Checkpoint().after(_record(judged, len(cases), spent), head, dict(head))
        save(checkpoint)
        return checkpoint

    def unseen(self, task: Task) -> Judged:
        """Return what heads said of the task's cases that never saw their patients.

        Raises:
            KeyError: The task was not fitted.
        """
        return self._unseen[id(task)]

    def outputs(self, cases: Sequence[Case]) -> tuple[Array, Array]:
        """Judge cases by the current weights, as they are, in all their ways.

        Returns:
            The class maps (n, rows, columns) of the first way, and the network's mean outputs (n, 1 or 2).

        Raises:
            UnusableError: A slice cannot be read.
            UnavailableError: A slice is away, or the disk is full.
        """
        make_features([view for case in cases for view in case.judged], self._maker)
        return self._judge(cases, get_weights(self.network))

    def prepare(self, task: Task) -> None:
        """Make all features.

        Raises:
            UnusableError: A slice cannot be read.
            UnavailableError: A slice is away, or the disk is full.
        """
        self._learnt(task)

    def features_cpu_s(self, task: Task, _epochs: int) -> float:
        """Return what the features cost, whenever they were made."""
        keys = {view.key for case in self._learnt(task) for view in (*case.views, *case.judged)}
        return self._maker.store.cpu_seconds(key for key in keys if key in self._maker.store)

    def weights(self) -> Weights:
        """Return the weights of the whole network."""
        return get_weights(self.network)

    def _learnt(self, task: Task) -> list[Case]:
        """Return every case that is learnt from, with its features; some lungs are too small to paint in."""
        samples = [case.sample for case in task.validation]
        cases = [draw.case for draw in draw_epoch(task.training, self._recipe, 1)]
        cases += list_cases(samples, self._recipe)
        make_features([view for case in cases for view in (*case.views, *case.judged)], self._maker)
        return [case for case in cases if case.views[0].key in self._maker.store]

    def _cross_validate(self, cases: Sequence[Case]) -> Judged:
        found: dict[int, tuple[Array, Array]] = {}
        groups = [case.sample.group for case in cases]
        folds = min(FOLDS, len(set(groups)))
        self._progress.begin("Cross-validation", folds)
        for learnt, held_out in grouped_folds(groups, folds, self._recipe.training.seed):
            head = self._solve([cases[row] for row in learnt])
            parts = self._judge([cases[row] for row in held_out], head)
            found |= {int(row): (parts[0][at], parts[1][at]) for at, row in enumerate(held_out)}
            self._progress.advance(1)
        ordered = [found[row] for row in range(len(cases))]
        return Judged(cases, np.stack([each for each, _ in ordered]), np.stack([each for _, each in ordered]))

    def _solve(self, cases: Sequence[Case]) -> Weights:
        """Return the head's weights."""
        network, training = self._recipe.network, self._recipe.training
        views = [(case, view) for case in cases for view in case.views if view.key in self._maker.store]
        positive = np.array([case.positive for case, _ in views])
        sources = [case.sample.source for case, _ in views]
        balance = balanced_weights(sources, positive, self._recipe.data.source_weights)
        features = self._whole([view for _, view in views])
        linear = fit_linear(features, positive, balance.astype(np.float64), training.weight_decay)
        head = _whole_head(linear, training.whole_weight if network.lesion_cells else 1.0, network)
        return head | self._solve_lesions(cases, features.shape[1]) if network.lesion_cells else head

    def _solve_lesions(self, cases: Sequence[Case], channels: int) -> Weights:
        """Fit the lesion head on healthy scans; where there is none, it says nothing."""
        network, seed = self._recipe.network, self._recipe.training.seed
        silent = _silent(network, channels // (2 if network.spread else 1))
        part, _, _ = self._recipe.input.views[0].partition(" ")
        scans = self._some_views(
            # As the slices of a study are looked at: more ways made it worse.
            (
                view
                for case in cases
                if case.sample.healthy_scan
                for view in case.views
                if view.view.way.startswith(part)
            ),
            SCANS,
        )
        if not scans:
            self._progress.say("no healthy scan to paint lesions into: the lesion head says nothing")
            return silent
        cells, densities, lungs = self._maker.store.take(scans, (CELLS, DENSITIES, LUNGS))
        chosen = choose_cells(cells, densities, lungs, seed)
        if not chosen.positive.any():
            self._progress.say("the lungs are too small to paint lesions into: the lesion head says nothing")
            return silent
        lesions = fit_lesions(chosen, network.lesion_channels, seed)
        cells, lungs = self._maker.store.take(
            self._some_views((view for case in cases for view in case.views), LUNG_SCANS), (CELLS, LUNGS)
        )
        return lesions | fit_lung(cells, lungs, seed)

    def _some_views(self, views: Iterable[Wanted], most: int) -> list[str]:
        """Draw the keys of views whose cells are looked at: of all there are more than fit in memory."""
        known = [view.key for view in views if view.key in self._maker.store]
        random = np.random.default_rng(self._recipe.training.seed)
        return [known[row] for row in np.sort(random.permutation(len(known))[:most])]

    def _whole(self, views: Sequence[Wanted]) -> NDArray[np.float32]:
        """Return what the head reads of whole maps, a row a view."""
        which = (MEANS, SPREADS) if self._recipe.network.spread else (MEANS,)
        return np.concatenate(self._maker.store.take([view.key for view in views], which), axis=1)

    def _judge(self, cases: Sequence[Case], head: Weights) -> tuple[Array, Array]:
        maps, outputs = [], []
        for part in _parts(cases):
            views = [view for case in part for view in case.judged]
            counts = np.array([len(case.judged) for case in part])
            begins = np.cumsum([0, *counts[:-1]])
            shown, said = self._judge_views(views, head)
            maps.append(shown[begins])
            outputs.append(np.add.reduceat(said, begins) / counts[:, np.newaxis])
        return join_studies(cases, np.concatenate(maps), np.concatenate(outputs), self._recipe)

    def _judge_views(self, views: Sequence[Wanted], head: Weights) -> tuple[Array, Array]:
        kernel = head[f"{HEAD}.weight"][0, :, 0, 0]
        (cells,) = self._maker.store.take([view.key for view in views], (CELLS,))
        linear = [kernel, head[f"{SPREAD}.weight"][0, :, 0, 0]] if self._recipe.network.spread else [kernel]
        whole = self._whole(views) @ np.concatenate(linear) + head[f"{HEAD}.bias"][0]
        if not self._recipe.network.lesion_cells:
            return cells.astype(np.float32) @ kernel + head[f"{HEAD}.bias"][0], whole[:, np.newaxis]
        maps = lesion_maps(cells, head)
        lesions = highest_cells(maps, self._recipe.network.lesion_cells)
        return maps, np.stack([whole + lesions, lesions], axis=1)


def pool_network(network: Any, recipe: Network) -> Any:
    """Return the network up to what its head reads: means, spreads and cells of the features."""
    features = network.get_layer(FEATURES).input
    mean = layers.GlobalAveragePooling2D()(features)
    spread = layers.Flatten()(measure_spread(features))
    return keras.Model(network.input, [mean, spread, pool_cells(features, recipe)], name="pooled")


def _extractor(pooled: Any, recipe: Recipe) -> Extract:
    traced = tf.function(lambda gray: pooled(gray, training=False), reduce_retracing=True)
    rows, columns = pooled.outputs[CELLS].shape[1:3]

    def extract(examples: Sequence[Example]) -> list[Array]:
        images, parts = stack_images(examples), []
        for start in range(0, len(images), recipe.training.batch):
            gray = images[start : start + recipe.training.batch, ..., np.newaxis].astype(np.float32)
            mean, spread, cells = (np.asarray(each) for each in traced(gray))
            parts.append((mean, spread, cells.astype(np.float16)))
        densities = np.stack([_shares(example.lesions, (columns, rows)) for example in examples])
        lungs = np.stack([_shares(example.lung, (columns, rows)) for example in examples])
        return [*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)), densities, lungs]

    return extract


def _shares(levels: Gray | None, side: tuple[int, int]) -> Array:
    """Return how much of each cell is covered, 0 to 1; NaN where nobody knows."""
    if levels is None:
        return np.full(side[::-1], np.nan, np.float16)
    small = Image.fromarray(levels).resize(side, Image.Resampling.BOX)
    return (np.asarray(small, np.float32) / 255).astype(np.float16)


def _parts(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), TOGETHER):
        yield cases[start : start + TOGETHER]


def _whole_head(linear: Linear, weight: float, network: Network) -> Weights:
    kernel = (weight * linear.kernel).astype(np.float32)
    mean, spread = np.split(kernel, 2) if network.spread else (kernel, None)
    head = {
        f"{HEAD}.weight": mean.reshape(1, -1, 1, 1),
        f"{HEAD}.bias": np.array([weight * linear.bias], np.float32),
    }
    return head if spread is None else head | {f"{SPREAD}.weight": spread.reshape(1, -1, 1, 1)}


def _silent(network: Network, channels: int) -> Weights:
    shapes = {
        f"{LESION_HIDDEN}.weight": (network.lesion_channels, channels, 1, 1),
        f"{LESION_HIDDEN}.bias": (network.lesion_channels,),
        f"{LESION_MAP}.weight": (1, network.lesion_channels, 1, 1),
        f"{LESION_MAP}.bias": (1,),
        f"{LUNG_MAP}.weight": (1, channels, 1, 1),
        f"{LUNG_MAP}.bias": (1,),
    }
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def _record(judged: Judged, examples: int, spent: tuple[float, float]) -> EpochRecord:
    genuine = [row for row, case in enumerate(judged.cases) if not case.painted]
    labels = np.array([judged.cases[row].positive for row in genuine])
    logits: Scores = judged.outputs[genuine, 0].astype(np.float64)
    entropy = float(np.logaddexp(0, -np.where(labels, 1.0, -1.0) * logits).mean())
    return EpochRecord(
        epoch=1,
        train_loss=entropy,
        validation_loss=entropy,
        validation_acc=float(((logits >= 0) == labels).mean()),
        validation_auc=auc(logits, labels),
        seconds=spent[0],
        cpu_seconds=spent[1],
        pipeline_images_per_s=examples / max(spent[0], 1e-9),
        step_images_per_s=examples / max(spent[0], 1e-9),
    )
