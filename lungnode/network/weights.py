"""The network's weights by name."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from keras import layers
from numpy.typing import NDArray

from lungnode.weights_file import KERNEL, Weights

NORMALIZATION: Final = {"gamma": "weight", "beta": "bias"}  # Keras' names to torchvision's; others are equal
STATISTICS: Final = {"moving_mean": "running_mean", "moving_variance": "running_var"}


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
