"""What a backbone is, and the layers that all of them are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from keras import layers

from lungnode.recipe import Network

Block = Callable[[Any], Any]  # feature map (n, rows, columns, channels) to feature map

LAST_STAGE: Final = 4
# For each topology what its publisher's ImageNet weights were trained with.
# v1: Keras, as Caffe did: 0 to 255, blue first, the photographs' mean taken off, not scaled.
# v1.5: torchvision: 0 to 1, red first, mean and deviation.
CAFFE_MEAN: Final = (103.939, 116.779, 123.68)  # blue, green, red; of 0..255
MEAN: Final = (0.485, 0.456, 0.406)  # red, green, blue; of 0..1
DEVIATION: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Layout:
    """A backbone in parts; `stages[s - 1]` ends at a stride of 2 ** (s + 1)."""

    stem: Block
    stages: tuple[Block, Block, Block, Block]


def normalise(gray: Any, network: Network) -> Any:
    """Turn gray (n, size, size, 1) of 0 to 255 into the three channels that the weights expect."""
    x = layers.Concatenate(name="channels")([gray, gray, gray])
    if network.topology == "v1":
        return layers.Normalization(mean=list(CAFFE_MEAN), variance=[1.0] * 3, name="normalization")(x)
    x = layers.Rescaling(1 / 255, name="scale")(x)
    variance = [deviation**2 for deviation in DEVIATION]
    return layers.Normalization(mean=list(MEAN), variance=variance, name="normalization")(x)


def convolve(x: Any, channels: int, kernel: int, *, name: str, stride: int = 1, bias: bool = False) -> Any:
    """Convolve, padded alike at both sides ("same" pads a strided map at one side more)."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    # Source: He et al., arXiv:1502.01852: the initial deviation that keeps rectified signals in range.
    return layers.Conv2D(
        channels, kernel, strides=stride, use_bias=bias, kernel_initializer="he_normal", name=name
    )(x)


def max_pool(x: Any, stride: int = 2) -> Any:
    """Take the maximum of 3x3; zeros do for the padding, since nothing is below zero after a ReLU."""
    return layers.MaxPooling2D(3, stride)(layers.ZeroPadding2D(1)(x))
