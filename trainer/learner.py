"""The part of the network that learns: one step, one epoch, and all that a checkpoint must hold of it.

Imports TensorFlow. Several GPUs share each batch: Keras' trainer for TensorFlow distributes by TensorFlow's
strategies (its `keras.distribution` has no data parallelism there), and so does this one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from lungnode.network import Weights, get_weights, set_weights
from lungnode.recipe import Training
from trainer.blocks import Array
from trainer.losses import Targets, losses
from trainer.plan import Visits
from trainer.progress import Progress

Take = Callable[[tuple[str, ...]], list[Array]]  # the features of some keys
State = dict[str, NDArray[Any]]

AHEAD: Final = 2  # batches read while a step runs


@dataclass(frozen=True)
class EpochCost:
    """Where the seconds of an epoch went."""

    images: int
    pipeline_s: float  # reading batches, beside the steps
    step_s: float


class Learner:
    """The trained part of a network with its optimizer and its moving average."""

    def __init__(self, network: Any, training: Training, strategy: Any, *, keep_statistics: bool) -> None:
        """Prepare a network for training.

        Args:
            network: From features to class maps and logits; built in the strategy's scope.
            training: Of the recipe.
            strategy: TensorFlow's: of one device or several.
            keep_statistics: Batch normalisation stays as it is.
        """
        self._network, self._training, self._strategy = network, training, strategy
        for layer in network.layers if keep_statistics else ():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        self._averaged = [*network.trainable_variables, *_statistics(network)] if training.average else []
        with strategy.scope():
            self._optimizer = _optimizer(training)
            self._optimizer.build(network.trainable_variables)
            self._averages = [tf.Variable(variable.value, trainable=False) for variable in self._averaged]
        self._step = tf.function(self._distributed_step, reduce_retracing=True)
        self._infer = tf.function(
            lambda features: network(_floats(features), training=False), reduce_retracing=True
        )

    def reseed(self, seed: NDArray[np.uint32]) -> None:
        """Give every dropout this state: an epoch must not depend on what ran before it."""
        for layer in self._network.layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate:
                layer.seed_generator.state.assign(seed)

    def learn(self, visits: Visits, take: Take, progress: Progress) -> tuple[float, EpochCost]:
        """Go through an epoch; return the mean loss, and what it cost.

        Args:
            visits: The examples in their order.
            take: Reads their features.
            progress: Hears of each example.
        """
        reader = _Reader(visits, take, self._training.batch)
        batches = self._strategy.experimental_distribute_dataset(reader.dataset())
        total, step_s = 0.0, 0.0
        for features, targets in batches:
            begin = time.perf_counter()
            total += float(self._step(features, Targets(*targets)))
            step_s += time.perf_counter() - begin
            progress.advance(min(self._training.batch, len(visits.keys)))
        mean = total * self._training.batch / len(visits.keys)
        return mean, EpochCost(len(visits.keys), reader.spent_s, step_s)

    def logits(self, visits: Visits, take: Take) -> NDArray[np.float32]:
        """Return the logit of each example, shape (n,), by the averaged weights where there are such."""
        with self._with_averages():
            reader = _Reader(visits, take, self._training.batch)
            parts = [np.asarray(self.infer(features)[1])[:, 0] for features, _ in reader.dataset()]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def infer(self, features: tuple[Array, ...]) -> Any:
        """Return class maps and logits by the weights as they are."""
        return self._infer(features)

    def weights(self) -> Weights:
        """Return what would be kept of the network now: the averaged weights where there are such."""
        with self._with_averages():
            return get_weights(self._network)

    def state(self) -> State:
        """Return all that the next epoch starts from."""
        state = {f"network/{name}": value for name, value in get_weights(self._network).items()}
        for number, variable in enumerate(self._optimizer.variables):
            state[f"optimizer/{number}"] = np.asarray(variable)
        for number, average in enumerate(self._averages):
            state[f"average/{number}"] = average.numpy()
        return state

    def restore(self, state: State) -> None:
        """Go on from what `state` returned.

        Raises:
            KeyError: A value is missing.
            ValueError: A value has another shape.
        """
        prefix = "network/"
        set_weights(
            self._network,
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)},
        )
        for number, variable in enumerate(self._optimizer.variables):
            variable.assign(state[f"optimizer/{number}"])
        for number, average in enumerate(self._averages):
            average.assign(state[f"average/{number}"])

    @contextmanager
    def _with_averages(self) -> Iterator[None]:
        kept = [np.asarray(variable) for variable in self._averaged]
        try:
            for variable, average in zip(self._averaged, self._averages, strict=True):
                variable.assign(average.numpy())
            yield
        finally:
            for variable, value in zip(self._averaged, kept, strict=True):
                variable.assign(value)

    def _distributed_step(self, features: Any, targets: Targets) -> Any:
        parts = self._strategy.run(self._local_step, (features, targets))
        return self._strategy.reduce("SUM", parts, axis=None)

    def _local_step(self, features: Any, targets: Targets) -> Any:
        with tf.GradientTape() as tape:
            class_maps, logits = self._network(_floats(features), training=True)
            # By the whole batch, whatever part of it this device sees: the devices' gradients are added. The
            # last batch of an epoch is smaller, and its examples count as all others do.
            loss = tf.reduce_sum(losses(class_maps, logits, targets)) / self._training.batch
        variables = self._network.trainable_variables
        self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        for variable, average in zip(self._averaged, self._averages, strict=True):
            average.assign_sub((1 - self._training.average) * (average - variable.value))
        return loss


class _Reader:
    """Reads batches ahead of the steps, and knows how long that took."""

    def __init__(self, visits: Visits, take: Take, batch: int) -> None:
        self._visits, self._take, self._batch = visits, take, batch
        self.spent_s = 0.0

    def dataset(self) -> Any:
        """Return batches of features and targets."""
        sample = self._take(self._visits.keys[:1])
        features = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in sample)
        number = tf.TensorSpec((None,), tf.float32)
        batches = tf.data.Dataset.from_generator(
            self._batches, output_signature=(features, (number, number))
        ).prefetch(AHEAD)
        options = tf.data.Options()
        # The devices share each batch; there are no files to share.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return batches.with_options(options)

    def _batches(self) -> Iterator[Any]:
        for start in range(0, len(self._visits.keys), self._batch):
            begin = time.perf_counter()
            part = slice(start, start + self._batch)
            features = tuple(self._take(self._visits.keys[part]))
            self.spent_s += time.perf_counter() - begin
            yield features, (self._visits.positive[part], self._visits.weight[part])


def _floats(features: Any) -> Any:
    """Return features in single precision, as the network takes them: one tensor, or a list of them."""
    cast = [tf.cast(each, tf.float32) for each in features]
    return cast[0] if len(cast) == 1 else cast


def _optimizer(training: Training) -> Any:
    decay = training.weight_decay or None
    if training.optimizer == "adamw":
        return keras.optimizers.AdamW(training.learning_rate, weight_decay=training.weight_decay)
    return keras.optimizers.SGD(training.learning_rate, momentum=training.momentum, weight_decay=decay)


def _statistics(network: Any) -> list[Any]:
    """Return what batch normalisation measures, where it measures."""
    return [
        variable
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        for variable in (layer.moving_mean, layer.moving_variance)
    ]
