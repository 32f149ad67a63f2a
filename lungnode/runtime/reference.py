"""The reference: the network in TensorFlow, in 32-bit floating point; on a GPU where TensorFlow sees one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, WEIGHTS_FILE, ModelInfo, describe_model
from lungnode.runtime.loaded import ClassMaps, LoadedModel, Outputs, Run
from lungnode.weights_file import name_of, read_weights

REFERENCE: Final = "tensorflow fp32"


def load_model(folder: Path | None = None, batch: int = 8) -> LoadedModel:
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
    return LoadedModel(info, batch, REFERENCE, _runner(build_with_weights(folder, info), info))


def build_with_weights(folder: Path, info: ModelInfo, *, lean: bool = False) -> Any:
    """Build the network of a model's folder with its weights, as a keras.Model.

    Args:
        folder: The model's folder.
        info: Of the model.
        lean: With the head in the order of computation that needs least; see lungnode/network/lean.py.

    Raises:
        UnusableError: The weights cannot be read or do not fit the network.
    """
    stored = read_weights(folder / WEIGHTS_FILE)
    expected = name_of(info.recipe.network)
    if stored.network not in ("", expected):
        raise UnusableError(f"The weights in {folder} are of {stored.network}, its recipe says {expected}.")
    load_tensorflow()
    from lungnode.network import add_head, add_lean_head, build_network, set_weights  # noqa: PLC0415 - see load_model

    network = build_network(info.recipe.network, info.size, head=add_lean_head if lean else add_head)
    try:
        set_weights(network, stored.weights)
    except (KeyError, ValueError) as error:
        raise UnusableError(f"The weights in {folder} do not fit the network: {error}.") from error
    return network


def _runner(network: Any, info: ModelInfo) -> Run:
    tf = load_tensorflow()
    signature = tf.TensorSpec((None, info.size, info.size, 1), tf.uint8)
    # Traced once: `Model.predict` would build a data pipeline at each call.
    traced = tf.function(
        lambda gray: network(tf.cast(gray, tf.float32), training=False), input_signature=[signature]
    )

    def run(slices: NDArray[np.uint8]) -> tuple[ClassMaps, Outputs]:
        class_maps, outputs = traced(slices)
        return np.asarray(class_maps)[..., 0], np.asarray(outputs)

    return run


def load_tensorflow() -> Any:
    """Import TensorFlow, as the backend of Keras, without a word on the terminal."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet_start():
        import keras  # noqa: F401, PLC0415 - see load_model
        import tensorflow as tf  # noqa: PLC0415
    return tf


def sees_gpu() -> bool:
    """Tell whether TensorFlow, which is imported for it, sees a GPU."""
    return bool(load_tensorflow().config.list_physical_devices("GPU"))


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
