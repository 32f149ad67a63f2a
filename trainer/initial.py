"""The first weights of a network, before it has seen a slice.

Weights of another topology fit most shapes and give nonsense without a word, so a file is taken only where
what it says of its topology, or else whose file it is, matches the recipe.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lungnode.errors import UnusableError
from lungnode.model_folder import WEIGHTS_FILE
from lungnode.network import get_weights, set_weights
from lungnode.network.head import HEADS
from lungnode.recipe import RECIPE_FILE, Network, read_recipe
from lungnode.weights_file import Weights, read_weights
from trainer import keras_weights

RANDOM: Final = "random"
IMAGENET: Final = "imagenet"
# A weight that one backbone alone has, in torchvision's names.
MARKS: Final = {
    "resnet50": "layer1.0.conv1.weight",
    "vgg16": "features.0.weight",
    "googlenet": "inception3a.branch1.conv.weight",
}
RESNET_BIAS: Final = "layer1.0.conv1.bias"  # only Keras' ResNet50 has biases
TORCHVISION: Final = "v1.5"  # topology of a file in torchvision's names that says nothing of itself
PUBLISHERS: Final = {"v1": "Keras", "v1.5": "torchvision"}


@dataclass(frozen=True)
class _Initial:
    """What a file holds."""

    weights: Weights
    backbone: str
    topology: str


def initialise(model: Any, network: Network, folder: Path = Path()) -> None:
    """Give the model the first weights that its recipe names; nothing is changed where they cannot be used.

    The backbone's weights must all be there. The head's are taken from a file that has them in the same
    shape, as a model's folder has; else they stay random.

    Args:
        model: From `build_network`, with random weights.
        network: Of the recipe.
        folder: What a relative path in `network.init` starts from.

    Raises:
        UnusableError: The weights cannot be had or read, or are of another backbone, topology or shape.
    """
    if network.init == RANDOM:
        return
    path = folder / network.init
    if network.init == IMAGENET:
        _check(_Initial({}, network.backbone, keras_weights.TOPOLOGY), network, "Keras' ImageNet weights")
        path = keras_weights.download(network.backbone)
    initial = _read(path, network)
    _check(initial, network, f"The weights {path}")
    set_weights(model, _fitting(initial.weights, get_weights(model), path))


def _read(path: Path, network: Network) -> _Initial:
    """Read a file of weights, or those of a model's folder."""
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise UnusableError(f"There are no initial weights at {path}: give another file with --init.")
    if path.suffix in keras_weights.SUFFIXES:
        weights = keras_weights.read_keras_file(path, network.backbone)
        return _Initial(weights, network.backbone, keras_weights.TOPOLOGY)
    if path.suffix == ".npz":
        return _read_arrays(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    raise UnusableError(
        f"The weights {path} are of no known kind; .npz, .safetensors, .h5, .keras or a model's folder are."
    )


def _read_arrays(path: Path) -> _Initial:
    """Read NumPy's archive in torchvision's names; an array `topology` may say the topology."""
    try:
        with np.load(path, allow_pickle=False) as file:
            weights: Weights = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UnusableError(f"The weights {path} cannot be read: {error}.") from error
    stated = weights.pop("topology", None)
    return _Initial(weights, _backbone(weights, path), str(stated) if stated is not None else _guess(weights))


def _read_safetensors(path: Path) -> _Initial:
    """Read a file that says what it is for, one in a model's folder, or one in torchvision's names."""
    stored = read_weights(path)
    if stored.network:
        backbone, _, topology = stored.network.partition(" ")
        return _Initial(stored.weights, backbone, topology)
    if (path.parent / RECIPE_FILE).is_file():
        made_by = read_recipe(path.parent).network
        return _Initial(stored.weights, made_by.backbone, made_by.topology)
    return _Initial(stored.weights, _backbone(stored.weights, path), _guess(stored.weights))


def _backbone(weights: Weights, path: Path) -> str:
    """Tell the backbone by a weight that it alone has."""
    for backbone, name in MARKS.items():
        if name in weights:
            return backbone
    raise UnusableError(
        f"The weights {path} are of no known backbone; it has none of {', '.join(MARKS.values())}."
    )


def _guess(weights: Weights) -> str:
    """Tell the topology of a file that says nothing: its names are torchvision's."""
    return "v1" if RESNET_BIAS in weights else TORCHVISION


def _check(initial: _Initial, network: Network, what: str) -> None:
    """Refuse another backbone or topology than the recipe's."""
    if initial.backbone != network.backbone:
        raise UnusableError(f"{what} are of {initial.backbone}, the recipe's network is {network.backbone}.")
    if initial.topology != network.topology:
        raise UnusableError(
            f"{what} are of topology {_name(initial.topology)}, the recipe's network is "
            f"{_name(network.topology)}: set network.topology to theirs or give other weights with --init."
        )


def _name(topology: str) -> str:
    return f"{topology} ({PUBLISHERS.get(topology, 'of no known publisher')})"


def _fitting(weights: Weights, present: Weights, path: Path) -> Weights:
    """Return a value for each weight of the model: the file's, or its own for a head that the file lacks."""
    fitting = {}
    for name, value in present.items():
        found = weights.get(name)
        if found is not None and found.shape == value.shape:
            fitting[name] = found
        elif name.partition(".")[0] in HEADS:
            fitting[name] = value
        else:
            shape = "lack it" if found is None else f"have {found.shape}"
            raise UnusableError(
                f"The weights {path} do not fit: {name} is {value.shape} in the network, they {shape}."
            )
    return fitting
