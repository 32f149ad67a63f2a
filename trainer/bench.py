"""A network on the bench: its frozen part makes features, the rest is fitted, as often as needed.

A training fits once; a cross-validation starts over from the same first weights for each fold and shares the
features. Imports TensorFlow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lungnode.errors import UnusableError
from lungnode.network import Weights, build_network, get_weights, set_weights, split_network
from lungnode.recipe import Recipe
from trainer.blocks import Array
from trainer.checkpoint import Checkpoint, EpochRecord
from trainer.draws import draw_slices
from trainer.examples import Example
from trainer.features import (
    Case,
    Extract,
    Images,
    Maker,
    frozen_digest,
    list_cases,
    make_features,
    open_store,
)
from trainer.initial import RANDOM, initialise
from trainer.learner import EpochCost, Learner
from trainer.metrics import auc
from trainer.plan import Draw, Visits, draw_epoch, draw_evaluation, dropout_seed, visit
from trainer.progress import Progress
from trainer.samples import Sample, Split

Save = Callable[[Checkpoint], None]
KERNEL: Final = 4  # dimensions of a convolution's kernel


@dataclass(frozen=True)
class Judged:
    """Cases, and what a network says of them that did not learn from them."""

    cases: Sequence[Case]
    class_maps: Array  # shape (n, rows, columns)
    outputs: Array  # shape (n, 1), logits; or (n, 2), the lesion head's part behind them


@dataclass(frozen=True)
class Task:
    """What is learnt from, and what says when to stop."""

    training: Sequence[Case]
    validation: Sequence[Case]


def make_task(samples: Sequence[Sample], recipe: Recipe) -> Task:
    """List what the training split gives to learn, and what of the validation split is looked at.

    Of a study, validation looks at as many slices as an epoch learns from, always the same ones.

    Raises:
        UnavailableError: A slice without a digest is away.
    """
    random, data = np.random.default_rng((recipe.training.seed, 0)), recipe.data
    validation = [sample for sample in samples if sample.split is Split.VALIDATION]
    drawn = draw_slices(validation, data.positive_slices, data.negative_slices, random)
    training = [sample for sample in samples if sample.split is Split.TRAIN]
    return Task(list_cases(training, recipe), list_cases(drawn, recipe, learnt=False))


def first_network(recipe: Recipe, folder: Path = Path()) -> Any:
    """Build the network of a recipe with the first weights that it names; the same seed gives the same ones.

    Args:
        recipe: What is built.
        folder: What a relative path of initial weights starts from.

    Raises:
        UnusableError: The initial weights cannot be used.
    """
    keras.utils.set_random_seed(recipe.training.seed)
    network = build_network(recipe.network, recipe.input.size)
    initialise(network, recipe.network, folder)
    # As they are shipped: frozen kernels are never any other, so features are made with the rounded ones.
    set_weights(network, {name: _rounded(value) for name, value in get_weights(network).items()})
    return network


def _rounded(value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(np.float16).astype(np.float32) if value.ndim == KERNEL else value


def choose_strategy() -> Any:
    """Use every GPU there is, or else the CPU; repeated work is then the same to the bit.

    Source: TensorFlow's guide to op determinism.
    """
    tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


class Bench:
    """A network with its store of features."""

    def __init__(self, recipe: Recipe, network: Any, cache: Path, progress: Progress, strategy: Any) -> None:
        """Split the network and open the store.

        Args:
            recipe: Of the training.
            network: From `first_network`, built in the strategy's scope.
            cache: Folder of all stores of features.
            progress: Hears what is done.
            strategy: From `choose_strategy`.

        Raises:
            UnavailableError: The cache cannot be used.
        """
        self._recipe, self.network, self._progress = recipe, network, progress
        trunk, self._rest = split_network(network, recipe.network.frozen)
        frozen = {} if recipe.network.frozen <= 0 else get_weights(trunk)
        store = open_store(cache, recipe, frozen_digest(frozen))
        self._maker = Maker(recipe, store, _extractor(trunk, recipe), progress)
        # A network of random weights has no statistics worth keeping.
        keep = not recipe.training.new_statistics and recipe.network.init != RANDOM
        self._learner = Learner(self._rest, recipe.training, strategy, keep_statistics=keep)
        self._fresh = self._learner.state()

    def fit(self, task: Task, done: Checkpoint | None = None, save: Save = lambda _: None) -> Checkpoint:
        """Train from the first weights, or on from a checkpoint, until the recipe says stop.

        Afterwards the network has the best epoch's weights.

        Args:
            task: What is learnt.
            done: Where to go on.
            save: Keeps the state after each epoch.

        Raises:
            UnusableError: A slice cannot be read, or the training diverged.
            UnavailableError: A slice is away, or the disk is full.
        """
        training, checkpoint = self._recipe.training, done or Checkpoint()
        learner = self._learner
        learner.restore(checkpoint.state or self._fresh)
        while not checkpoint.is_finished(training.epochs, training.patience):
            record = self._epoch(task, checkpoint.epoch + 1)
            checkpoint = checkpoint.after(record, learner.weights(), learner.state())
            save(checkpoint)
            self._progress.say(_line(record))
        if checkpoint.best is None:
            raise UnusableError(
                "No epoch had a validation loss that is a number: the training diverged. Lower "
                "training.learning_rate."
            )
        set_weights(self._rest, checkpoint.best)
        return checkpoint

    def _epoch(self, task: Task, number: int) -> EpochRecord:
        training = self._recipe.training
        visits = self._visits(draw_epoch(task.training, self._recipe, number))
        checked = self._visits(draw_evaluation(task.validation))
        self._progress.begin(f"Epoch {number} of at most {training.epochs}", len(visits.keys))
        begin, cpu = perf_counter(), process_time()
        self._learner.reseed(dropout_seed(training.seed, number))
        loss, cost = self._learner.learn(visits, self._maker.store.take, self._progress)
        logits = self._learner.logits(checked, self._maker.store.take)
        return _record(number, loss, cost, checked, logits, (perf_counter() - begin, process_time() - cpu))

    def _visits(self, draws: Sequence[Draw]) -> Visits:
        """Make the features that are missing, and leave out what has none: too little lung was seen."""
        make_features([draw.view for draw in draws], self._maker)
        possible = [draw for draw in draws if draw.view.key in self._maker.store]
        return visit(possible, self._recipe.data.source_weights)

    def prepare(self, task: Task) -> None:
        """Make the features of the first epoch; `fit` makes what is missing by itself.

        Raises:
            UnusableError: A slice cannot be read.
            UnavailableError: A slice is away, or the disk is full.
        """
        self._visits(draw_epoch(task.training, self._recipe, 1))
        self._visits(draw_evaluation(task.validation))

    def features_cpu_s(self, task: Task, epochs: int) -> float:
        """Return what the features cost that a training of so many epochs needed, whenever they were made."""
        draws = [draw_evaluation(task.validation)]
        draws += [draw_epoch(task.training, self._recipe, number) for number in range(1, epochs + 1)]
        keys = {draw.view.key for part in draws for draw in part}
        return self._maker.store.cpu_seconds(key for key in keys if key in self._maker.store)

    def outputs(self, cases: Sequence[Case]) -> tuple[Array, Array]:
        """Judge cases by the current weights, as they are, in all their ways.

        Args:
            cases: Whatever they are learnt by.

        Returns:
            The class maps (n, rows, columns) of the first way, and the network's mean outputs (n, 1 or 2).

        Raises:
            UnusableError: A slice cannot be read.
            UnavailableError: A slice is away, or the disk is full.
        """
        keys = self._visits(draw_evaluation(cases, all_ways=True)).keys
        maps, logits = [], []
        for start in range(0, len(keys), self._recipe.training.batch):
            features = self._maker.store.take(keys[start : start + self._recipe.training.batch])
            class_maps, logit = self._learner.infer(tuple(features))
            maps.append(np.asarray(class_maps)[..., 0])
            logits.append(np.asarray(logit))
        begins = np.cumsum([0, *(len(case.judged) for case in cases[:-1])])
        counts = np.array([len(case.judged) for case in cases])
        joined = np.add.reduceat(np.concatenate(logits), begins) / counts[:, np.newaxis]
        return np.concatenate(maps)[begins], joined

    def unseen(self, task: Task) -> Judged:
        """Judge what was not learnt from: the validation cases.

        Raises:
            UnusableError: A slice cannot be read.
            UnavailableError: A slice is away, or the disk is full.
        """
        return Judged(task.validation, *self.outputs(task.validation))

    def weights(self) -> Weights:
        """Return the weights of the whole network."""
        return get_weights(self.network)


def _record(
    number: int, loss: float, cost: EpochCost, visits: Visits, logits: Array, spent: tuple[float, float]
) -> EpochRecord:
    signs = np.where(visits.positive > 0, 1.0, -1.0)
    entropy = np.logaddexp(0, -signs * logits.astype(np.float64))
    return EpochRecord(
        epoch=number,
        train_loss=loss,
        validation_loss=float(np.average(entropy, weights=visits.weight)),
        validation_acc=float(((logits >= 0) == (visits.positive > 0)).mean()),
        validation_auc=auc(logits.astype(np.float64), visits.positive > 0),
        seconds=spent[0],
        cpu_seconds=spent[1],
        pipeline_images_per_s=cost.images / max(cost.pipeline_s, 1e-9),
        step_images_per_s=cost.images / max(cost.step_s, 1e-9),
    )


def _line(record: EpochRecord) -> str:
    return (
        f"epoch {record.epoch}: loss {record.train_loss:.4f}, validation loss {record.validation_loss:.4f}, "
        f"accuracy {record.validation_acc:.3f}, AUC {record.validation_auc:.3f}, {record.seconds:.1f} s, "
        f"{record.step_images_per_s:.1f} images/s"
    )


def stack_images(examples: Sequence[Example]) -> Images:
    """Return the inputs of examples as one array."""
    return np.stack([example.image for example in examples])


def _extractor(trunk: Any, recipe: Recipe) -> Extract:
    """Return the frozen part as a function; where nothing is frozen, inputs stay 8-bit pictures."""
    if recipe.network.frozen <= 0:
        return lambda examples: [stack_images(examples)[..., np.newaxis]]
    traced = tf.function(lambda gray: trunk(gray, training=False), reduce_retracing=True)

    def extract(examples: Sequence[Example]) -> list[Array]:
        images, parts = stack_images(examples), []
        for start in range(0, len(images), recipe.training.batch):
            gray = images[start : start + recipe.training.batch, ..., np.newaxis].astype(np.float32)
            made = traced(gray)
            parts.append(
                [np.asarray(each, np.float16) for each in (made if isinstance(made, list) else [made])]
            )
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    return extract


def with_init(recipe: Recipe, init: Path | str) -> Recipe:
    """Return the recipe with other first weights."""
    return recipe.model_copy(update={"network": recipe.network.model_copy(update={"init": str(init)})})
