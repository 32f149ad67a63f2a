"""The network: ResNet50, its feature extractor unchanged, and one added 1x1 convolution.

The added convolution turns features into one map per finding; the mean of a map is the finding's logit, so
the map is the class activation map: it shows what each place added to the logit.

Source: the paper; He et al., arXiv:1512.03385, in the variant known as v1.5, whose stride of a bottleneck
sits in its 3x3 convolution.
"""

from collections.abc import Mapping
from typing import Any, Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

Weights = dict[str, NDArray[Any]]  # torchvision's names; convolutions as (out, in, rows, columns)

# Units (bottlenecks) and output channels of the residual stages 1 to 4. Source: arXiv:1512.03385, table 1.
UNITS: Final = (3, 4, 6, 3)
CHANNELS: Final = (256, 512, 1024, 2048)
EXPANSION: Final = 4  # output channels of a bottleneck per inner channel
EPSILON: Final = 1e-5  # of the batch normalisation the initial weights were trained with
# The photographs' statistics that the initial weights expect, for RGB in [0, 1].
MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
HEAD: Final = "class_map"
NORMALIZATION: Final = {"gamma": "weight", "beta": "bias"}  # Keras' names to torchvision's; others are equal
STATISTICS: Final = {"moving_mean": "running_mean", "moving_variance": "running_var"}


def build_network(size: int, stages: tuple[int, ...], dropout: float = 0.0, findings: int = 1) -> Any:
    """Build the network with random weights.

    Args:
        size: Rows and columns of the input: 8-bit gray of shape (n, size, size, 1).
        stages: Residual stages, 1 to 4, whose features the class-map convolution reads; maps are brought to
            the size of the first.
        dropout: Share of the features dropped in training.
        findings: Number of class maps.

    Returns:
        A model with the outputs class maps (n, rows, columns, findings) and logits (n, findings).
    """
    image = keras.Input((size, size, 1), name="gray")
    maps = _residual_stages(_stem(image), max(stages))
    features = _hypercolumn([maps[stage - 1] for stage in stages])
    features = layers.Dropout(dropout, name="dropout")(features)
    class_maps = layers.Conv2D(findings, 1, name=HEAD)(features)
    logits = layers.GlobalAveragePooling2D(name="logit")(class_maps)
    return keras.Model(image, [class_maps, logits], name="lungnode")


def build_extractor(size: int, stages: tuple[int, ...]) -> Any:
    """Build the feature extractor alone: its output is the mean of the features, (n, channels).

    The mean over the map is taken after the stages are joined, so a linear function of it equals the logit of
    the class-map convolution with the same weights.
    """
    image = keras.Input((size, size, 1), name="gray")
    maps = _residual_stages(_stem(image), max(stages))
    features = _hypercolumn([maps[stage - 1] for stage in stages])
    return keras.Model(image, layers.GlobalAveragePooling2D()(features), name="extractor")


def _stem(image: Any) -> Any:
    """Normalise, then reduce to a quarter of the size."""
    x = layers.Concatenate(name="rgb")([image, image, image])
    x = layers.Rescaling(1 / 255, name="scale")(x)
    variance = [deviation**2 for deviation in DEVIATION]
    x = layers.Normalization(mean=list(MEAN), variance=variance, name="normalization")(x)
    x = _convolve(x, 64, 7, 2, "conv1", "bn1")
    x = layers.ReLU()(x)
    # Zeros do for the padding of a maximum: nothing is below zero here.
    return layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))


def _residual_stages(x: Any, last: int) -> list[Any]:
    """Run the residual stages 1 to `last` and return the map of each."""
    maps = []
    for stage, (units, channels) in enumerate(zip(UNITS[:last], CHANNELS, strict=False), start=1):
        for unit in range(units):
            stride = 2 if unit == 0 and stage > 1 else 1
            x = _bottleneck(x, channels, stride, f"layer{stage}.{unit}", project=unit == 0)
        maps.append(x)
    return maps


def _bottleneck(x: Any, channels: int, stride: int, name: str, *, project: bool) -> Any:
    inner = channels // EXPANSION
    y = layers.ReLU()(_convolve(x, inner, 1, 1, f"{name}.conv1", f"{name}.bn1"))
    y = layers.ReLU()(_convolve(y, inner, 3, stride, f"{name}.conv2", f"{name}.bn2"))
    y = _convolve(y, channels, 1, 1, f"{name}.conv3", f"{name}.bn3")
    if project:
        x = _convolve(x, channels, 1, stride, f"{name}.downsample.0", f"{name}.downsample.1")
    return layers.ReLU()(layers.Add()([x, y]))


def _convolve(x: Any, channels: int, kernel: int, stride: int, *names: str) -> Any:
    """Convolve and normalise, padded alike at both sides ("same" pads a strided map at one side more)."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    x = layers.Conv2D(channels, kernel, strides=stride, use_bias=False, name=names[0])(x)
    return layers.BatchNormalization(epsilon=EPSILON, name=names[1])(x)


def _hypercolumn(maps: list[Any]) -> Any:
    """Join maps along the channels at the size of the first."""
    if len(maps) == 1:
        return maps[0]
    rows, columns = maps[0].shape[1:3]
    return layers.Concatenate()([layers.Resizing(rows, columns, interpolation="bilinear")(m) for m in maps])


def set_weights(network: Any, weights: Mapping[str, NDArray[Any]]) -> None:
    """Put `weights` into the network; names that it does not have (a classifier of photographs) are ignored.

    Raises:
        KeyError: A weight of the network is missing.
        ValueError: A weight has another shape.
    """
    for variable, name in _named_variables(network):
        value = np.asarray(weights[name], np.float32)
        variable.assign(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)  # noqa: PLR2004 - a kernel


def get_weights(network: Any) -> Weights:
    """Return the network's weights in torchvision's names and layout."""
    weights = {}
    for variable, name in _named_variables(network):
        value = np.asarray(variable)
        weights[name] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value  # noqa: PLR2004
    return weights


def _named_variables(network: Any) -> list[tuple[Any, str]]:
    """Pair each weight of the network with its name in the file."""
    named = []
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D):
            named.append((layer.kernel, f"{layer.name}.weight"))
            if layer.use_bias:
                named.append((layer.bias, f"{layer.name}.bias"))
        elif isinstance(layer, layers.BatchNormalization):
            for ours, theirs in (NORMALIZATION | STATISTICS).items():
                named.append((getattr(layer, ours), f"{layer.name}.{theirs}"))
    return named
