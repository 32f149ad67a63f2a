"""ResNet50, its feature extractor unchanged, in two topologies.

v1, as Keras publishes it: a bottleneck strides in its first 1x1 convolution; convolutions have biases.
v1.5, as torchvision publishes it: it strides in its 3x3 convolution; no biases.

Source: the paper; He et al., arXiv:1512.03385.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from keras import layers

from lungnode.network.layout import Layout, convolve, max_pool

# Units (bottlenecks) and output channels of the residual stages 1 to 4. Source: arXiv:1512.03385, table 1.
UNITS: Final = (3, 4, 6, 3)
CHANNELS: Final = (256, 512, 1024, 2048)
EXPANSION: Final = 4  # output channels of a bottleneck per inner channel


def layout(topology_name: str) -> Layout:
    """Return the parts of the backbone."""
    topology = _TOPOLOGIES[topology_name]
    first, second, third, fourth = (partial(topology.stage, number) for number in range(1, 5))
    return Layout(topology.stem, (first, second, third, fourth))


@dataclass(frozen=True)
class _Topology:
    strides: tuple[int, int]  # of a bottleneck's first 1x1 and its 3x3 convolution, where the map shrinks
    bias: bool  # of the convolutions
    epsilon: float  # of the batch normalisation that the published weights were trained with

    def stem(self, x: Any) -> Any:
        """Reduce to a quarter of the size."""
        return max_pool(layers.ReLU()(self._convolve(x, 64, 7, ("conv1", "bn1"), stride=2)))

    def stage(self, number: int, x: Any) -> Any:
        """Run one residual stage; all but the first halve the map."""
        for unit in range(UNITS[number - 1]):
            strides = self.strides if unit == 0 and number > 1 else (1, 1)
            x = self._bottleneck(x, CHANNELS[number - 1], strides, f"layer{number}.{unit}")
        return x

    def _bottleneck(self, x: Any, channels: int, strides: tuple[int, int], name: str) -> Any:
        inner = channels // EXPANSION
        y = self._convolve(x, inner, 1, (f"{name}.conv1", f"{name}.bn1"), stride=strides[0])
        y = self._convolve(layers.ReLU()(y), inner, 3, (f"{name}.conv2", f"{name}.bn2"), stride=strides[1])
        y = self._convolve(layers.ReLU()(y), channels, 1, (f"{name}.conv3", f"{name}.bn3"))
        if x.shape[-1] != channels:
            names = (f"{name}.downsample.0", f"{name}.downsample.1")
            x = self._convolve(x, channels, 1, names, stride=max(strides))
        return layers.ReLU()(layers.Add()([x, y]))

    def _convolve(
        self, x: Any, channels: int, kernel: int, names: tuple[str, str], *, stride: int = 1
    ) -> Any:
        x = convolve(x, channels, kernel, name=names[0], stride=stride, bias=self.bias)
        return layers.BatchNormalization(epsilon=self.epsilon, name=names[1])(x)


_TOPOLOGIES: Final = {
    "v1": _Topology(strides=(2, 1), bias=True, epsilon=1.001e-5),
    "v1.5": _Topology(strides=(1, 2), bias=False, epsilon=1e-5),
}
