"""The seam between the product and whatever runs the network: TensorFlow, and later OpenVINO."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, WEIGHTS_FILE, ModelInfo, describe_model
from lungnode.weights_file import Weights, name_of, read_weights

Slices = NDArray[np.uint8]  # shape (n, size, size): 8-bit gray, as pixels.model_input makes them
Probabilities = NDArray[np.float32]  # shape (n,)
ClassMaps = NDArray[np.float32]  # shape (n, rows, columns): what each place adds to the calibrated logit


class Model(Protocol):
    """A loaded model."""

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        ...

    @property
    def batch(self) -> int:
        """Slices that go through the network at once."""
        ...

    def predict(self, slices: Slices, *, alone: bool = False) -> tuple[Probabilities, ClassMaps]:
        """Return each slice's probability and class map; slices do not influence each other.

        `alone` says that they are pictures, which no study surrounds: they may be read otherwise.
        """
        ...


def load_model(folder: Path | None = None, batch: int = 8) -> Model:
    """Load the model of a folder, by default the one that Lungnode ships.

    TensorFlow is imported here, and only here: it takes seconds and hundreds of megabytes.

    Args:
        folder: The model's folder.
        batch: Slices given to the network at once; the last batch is filled up.

    Raises:
        UnusableError: A file of the model is missing, cannot be read or does not fit the network.
    """
    folder = folder or SHIPPED_MODEL
    info = describe_model(folder)
    stored = read_weights(folder / WEIGHTS_FILE)
    expected = name_of(info.recipe.network)
    if stored.network not in ("", expected):
        raise UnusableError(f"The weights in {folder} are of {stored.network}, its recipe says {expected}.")
    try:
        return _TensorFlowModel(info, stored.weights, batch)
    except (KeyError, ValueError) as error:
        raise UnusableError(f"The weights in {folder} do not fit the network: {error}.") from error


def load_tensorflow() -> Any:
    """Import TensorFlow, as the backend of Keras, without a word on the terminal."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet_start():
        import keras  # noqa: F401, PLC0415 - see load_model
        import tensorflow as tf  # noqa: PLC0415
    return tf


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep off the terminal what TensorFlow's libraries write while they load, whatever their log level."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _TensorFlowModel:
    """The network in TensorFlow; a GPU is used where TensorFlow sees one."""

    def __init__(self, info: ModelInfo, weights: Weights, batch: int) -> None:
        tf = load_tensorflow()
        from lungnode.network import build_network, set_weights  # noqa: PLC0415 - see load_model

        network = build_network(info.recipe.network, info.size)
        set_weights(network, weights)
        self._info = info
        self._batch = batch
        signature = tf.TensorSpec((None, info.size, info.size, 1), tf.uint8)
        # Traced once: `Model.predict` would build a data pipeline at each call.
        self._run = tf.function(
            lambda gray: network(tf.cast(gray, tf.float32), training=False), input_signature=[signature]
        )

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def batch(self) -> int:
        return self._batch

    def predict(self, slices: Slices, *, alone: bool = False) -> tuple[Probabilities, ClassMaps]:
        if slices.shape[1:] != (self._info.size, self._info.size) or slices.dtype != np.uint8:
            size = self._info.size
            raise ValueError(
                f"The model takes uint8 of (n, {size}, {size}), got {slices.dtype} {slices.shape}."
            )
        logits, maps = [], []
        for start in range(0, len(slices), self._batch):
            part = slices[start : start + self._batch]
            # Two shapes only, a full batch and a single slice: kernels are made once for each shape.
            filled = np.zeros((self._batch if len(part) > 1 else 1, *slices.shape[1:], 1), np.uint8)
            filled[: len(part), ..., 0] = part
            class_maps, logit = self._run(filled)
            maps.append(np.asarray(class_maps)[: len(part), ..., 0])
            logits.append(np.asarray(logit)[: len(part)])
        if not logits:
            return np.zeros(0, np.float32), np.zeros((0, 1, 1), np.float32)
        reading = self._info.decision.reading(alone=alone)
        calibrated = reading.logits(np.concatenate(logits)).astype(np.float32)
        return sigmoid(calibrated), np.concatenate(maps) * np.float32(reading.map_slope)


def sigmoid(logits: NDArray[np.float32]) -> Probabilities:
    """Return the probability of each logit, without overflow at large ones."""
    probabilities: Probabilities = 0.5 * (1 + np.tanh(0.5 * logits))
    return probabilities.astype(np.float32)
