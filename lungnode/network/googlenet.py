"""GoogLeNet (Inception v1), one of the paper's baselines; both topologies differ by their normalisation only.

It differs from its paper in what training from random weights needs: every convolution is followed by batch
normalisation, in place of its bias, of the local response normalisation and of the auxiliary classifiers.
torchvision's GoogLeNet is another network: its branch of 5x5 convolutions has 3x3 ones.

Source: Szegedy et al., arXiv:1409.4842, table 1; Ioffe and Szegedy, arXiv:1502.03167.
"""

from functools import partial
from typing import Any, Final, NamedTuple

from keras import layers

from lungnode.network.layout import Layout, convolve, max_pool

EPSILON: Final = 1e-3  # of the batch normalisation; Inception's


class Inception(NamedTuple):
    """Channels of one module. Source: arXiv:1409.4842, table 1, in its order and its words."""

    one: int  # 1x1
    three_reduce: int
    three: int  # 3x3
    five_reduce: int
    five: int  # 5x5
    pool_proj: int


MODULES: Final = {
    2: {"3a": Inception(64, 96, 128, 16, 32, 32), "3b": Inception(128, 128, 192, 32, 96, 64)},
    3: {
        "4a": Inception(192, 96, 208, 16, 48, 64),
        "4b": Inception(160, 112, 224, 24, 64, 64),
        "4c": Inception(128, 128, 256, 24, 64, 64),
        "4d": Inception(112, 144, 288, 32, 64, 64),
        "4e": Inception(256, 160, 320, 32, 128, 128),
    },
    4: {"5a": Inception(256, 160, 320, 32, 128, 128), "5b": Inception(384, 192, 384, 48, 128, 128)},
}


def layout() -> Layout:
    """Return the parts: the stem ends at the first maximum, each later one begins the next stage."""
    return Layout(_stem, (_first_stage, partial(_modules, 2), partial(_modules, 3), partial(_modules, 4)))


def _stem(x: Any) -> Any:
    return max_pool(_convolve(x, 64, 7, "conv1", stride=2))


def _first_stage(x: Any) -> Any:
    return _convolve(_convolve(x, 64, 1, "conv2"), 192, 3, "conv3")


def _modules(stage: int, x: Any) -> Any:
    x = max_pool(x)
    for name, channels in MODULES[stage].items():
        x = _inception(x, channels, f"inception{name}")
    return x


def _inception(x: Any, channels: Inception, name: str) -> Any:
    three = _convolve(x, channels.three_reduce, 1, f"{name}.branch2.0")
    five = _convolve(x, channels.five_reduce, 1, f"{name}.branch3.0")
    branches = [
        _convolve(x, channels.one, 1, f"{name}.branch1"),
        _convolve(three, channels.three, 3, f"{name}.branch2.1"),
        _convolve(five, channels.five, 5, f"{name}.branch3.1"),
        _convolve(max_pool(x, stride=1), channels.pool_proj, 1, f"{name}.branch4.1"),
    ]
    return layers.Concatenate()(branches)


def _convolve(x: Any, channels: int, kernel: int, name: str, *, stride: int = 1) -> Any:
    x = convolve(x, channels, kernel, name=f"{name}.conv", stride=stride)
    return layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON, name=f"{name}.bn")(x))
