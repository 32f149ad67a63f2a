"""The network's weights by name: in memory, and in the file of a model's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from keras import layers
from numpy.typing import NDArray
from safetensors.numpy import save_file

from lungnode.errors import UnusableError
from lungnode.recipe import Network

Weights = dict[str, NDArray[Any]]  # torchvision's names; convolutions as (out, in, rows, columns)

NORMALIZATION: Final = {"gamma": "weight", "beta": "bias"}  # Keras' names to torchvision's; others are equal
STATISTICS: Final = {"moving_mean": "running_mean", "moving_variance": "running_var"}
NETWORK_KEY: Final = "network"  # what a file of ours is for: backbone and topology
KERNEL: Final = 4  # dimensions of a convolution's kernel


def set_weights(model: Any, weights: Mapping[str, NDArray[Any]]) -> None:
    """Put `weights` into the network; names that it does not have (a classifier of photographs) are ignored.

    Raises:
        KeyError: A weight of the network is missing.
        ValueError: A weight has another shape.
    """
    for name, variable in named_variables(model).items():
        value = np.asarray(weights[name], np.float32)
        variable.assign(value.transpose(2, 3, 1, 0) if value.ndim == KERNEL else value)


def get_weights(model: Any) -> Weights:
    """Return the network's weights in torchvision's names and layout."""
    weights = {}
    for name, variable in named_variables(model).items():
        value = np.asarray(variable)
        weights[name] = value.transpose(3, 2, 0, 1) if value.ndim == KERNEL else value
    return weights


def write_weights(weights: Mapping[str, NDArray[Any]], network: Network, path: Path) -> None:
    """Write the weights into a file that says what network they are for.

    Kernels are halved to 16 bits. Biases and statistics stay as they are: they are few, and those of a
    network that takes 0 to 255 can exceed what 16 bits hold.

    Raises:
        UnusableError: A weight is no finite number, or none in 16 bits: the training has diverged.
    """
    written = {}
    for name, value in weights.items():
        with np.errstate(over="ignore"):  # it becomes infinite, which is looked for
            kept = np.ascontiguousarray(value, np.float16 if value.ndim == KERNEL else np.float32)
        if not np.isfinite(kept).all():
            raise UnusableError(f"The weights {name} are not all finite numbers: the training has diverged.")
        written[name] = kept
    # One entry only: several would be written in an order that changes from run to run.
    save_file(written, path, {NETWORK_KEY: f"{network.backbone} {network.topology}"})


def named_variables(model: Any) -> dict[str, Any]:
    """Return each variable of the network under its name in the file."""
    named = {}
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            named[f"{layer.name}.weight"] = layer.kernel
            if layer.use_bias:
                named[f"{layer.name}.bias"] = layer.bias
        elif isinstance(layer, layers.BatchNormalization):
            for ours, theirs in (NORMALIZATION | STATISTICS).items():
                named[f"{layer.name}.{theirs}"] = getattr(layer, ours)
    return named
