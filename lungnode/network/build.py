"""The whole network of a recipe, and its two parts around what is frozen."""

from collections.abc import Callable
from typing import Any, Final

import keras
from keras import layers

from lungnode.network import googlenet, resnet50, vgg16
from lungnode.network.head import add_head
from lungnode.network.layout import LAST_STAGE, Layout, normalise
from lungnode.recipe import Network

Head = Callable[[list[Any], int, Network], list[Any]]  # maps of the stages, findings; see add_head

_READ: Final = "read{}"  # the name of the layer through which the head reads a stage
_STAGE: Final = "stage{}"  # the name of the layer that ends a stage


def build_network(network: Network, size: int, findings: int = 1, head: Head = add_head) -> Any:
    """Build the network with random weights.

    Args:
        network: Of the recipe; its `init` is not looked at.
        size: Rows and columns of the input: 8-bit gray, as floats, of shape (n, size, size, 1).
        findings: Number of class maps.
        head: What turns features into class maps and logits.

    Returns:
        A keras.Model with the outputs class maps (n, rows, columns, findings) and logits (n, findings).
    """
    image = keras.Input((size, size, 1), name="gray")
    layout = _layout(network)
    x = layout.stem(normalise(image, network))
    read = []
    for number, stage in enumerate(layout.stages[: max(network.stages)], start=1):
        x = layers.Identity(name=_STAGE.format(number))(stage(x))
        if number in network.stages:
            read.append(layers.Identity(name=_READ.format(number))(x))
    return keras.Model(image, head(read, findings, network), name="lungnode")


def split_network(model: Any, frozen: int) -> tuple[Any, Any]:
    """Split a network behind the stem and `frozen` stages into two models that share its variables.

    `rest(trunk(gray))` is `model(gray)`, so that what the trunk returns can be made once and kept.

    Args:
        model: From `build_network`.
        frozen: Stages that belong to the trunk; 0 leaves it nothing, not even the stem.

    Returns:
        The trunk: gray to a feature map, or to a list of maps where the head reads several of them; and the
        rest: from these to class maps and logits. A trunk of 0 returns its gray input.
    """
    if frozen <= 0:
        return keras.Model(model.input, model.input, name="trunk"), model
    names = {layer.name for layer in model.layers}
    numbers = range(1, LAST_STAGE + 1)
    read = [number for number in numbers if _READ.format(number) in names]
    passed = {number for number in read if number <= frozen}
    if frozen < max(read):
        passed.add(frozen)
    maps = [model.get_layer(_STAGE.format(number)).output for number in sorted(passed)]
    inner = maps[0] if len(maps) == 1 else maps
    trunk = keras.Model(model.input, inner, name="trunk")
    return trunk, keras.Model(inner, model.outputs, name="rest")


def _layout(network: Network) -> Layout:
    match network.backbone:
        case "resnet50":
            return resnet50.layout(network.topology)
        case "vgg16":
            return vgg16.layout()
        case "googlenet":
            return googlenet.layout()
