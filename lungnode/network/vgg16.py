"""VGG16's convolutions, one of the paper's baselines; both topologies differ by their normalisation only.

Source: Simonyan and Zisserman, arXiv:1409.1556, table 1, column D.
"""

from functools import partial
from typing import Any, Final

from keras import layers

from lungnode.network.layout import Layout, convolve

# Of each block the channels, and its convolutions' places in torchvision's list of layers: their names.
BLOCKS: Final = (
    (64, (0, 2)),
    (128, (5, 7)),
    (256, (10, 12, 14)),
    (512, (17, 19, 21)),
    (512, (24, 26, 28)),
)


def layout() -> Layout:
    """Return the parts: blocks 1 and 2 are the stem, 3 to 5 the first stages, the last maximum the fourth."""
    third, fourth, fifth = (partial(_block, *block) for block in BLOCKS[2:])
    return Layout(_stem, (third, lambda x: fourth(_halve(x)), lambda x: fifth(_halve(x)), _halve))


def _stem(x: Any) -> Any:
    for block in BLOCKS[:2]:
        x = _halve(_block(*block, x))
    return x


def _block(channels: int, places: tuple[int, ...], x: Any) -> Any:
    for place in places:
        x = layers.ReLU()(convolve(x, channels, 3, name=f"features.{place}", bias=True))
    return x


def _halve(x: Any) -> Any:
    return layers.MaxPooling2D(2, 2)(x)
