"""ResNet50 in plain NumPy, from the paper (arXiv:1512.03385) and PyTorch's definitions of the layers.

v1.5 is torchvision's: the stride in the 3x3 convolution, no biases, red first, mean and deviation.
v1 is Keras': the stride in the first 1x1 convolution, biases, blue first, mean taken off, another epsilon.

It shares no code with the network: it is what the network is checked against.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.float64]  # shape (channels, rows, columns)
Arrays = Mapping[str, NDArray[np.float32]]
UNITS = {1: 3, 2: 4, 3: 6, 4: 3}


def random_weights(seed: int, last_stage: int = 4, topology: str = "v1.5") -> dict[str, NDArray[np.float32]]:
    """Draw weights under torchvision's names that keep activations in range."""
    random = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.float32]] = {}

    def draw(convolution: str, norm: str, out: int, into: int, kernel: int) -> None:
        scale = np.sqrt(2 / (into * kernel * kernel))
        arrays[f"{convolution}.weight"] = (
            random.standard_normal((out, into, kernel, kernel)) * scale
        ).astype(np.float32)
        if topology == "v1":
            arrays[f"{convolution}.bias"] = random.uniform(-0.2, 0.2, out).astype(np.float32)
        for name, low, high in (("weight", 0.5, 1.0), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2)):
            arrays[f"{norm}.{name}"] = random.uniform(low, high, out).astype(np.float32)
        arrays[f"{norm}.running_var"] = random.uniform(0.5, 2.0, out).astype(np.float32)

    draw("conv1", "bn1", 64, 3, 7)
    into = 64
    for stage in range(1, last_stage + 1):
        inner = 32 * 2**stage
        for unit in range(UNITS[stage]):
            name = f"layer{stage}.{unit}"
            draw(f"{name}.conv1", f"{name}.bn1", inner, into, 1)
            draw(f"{name}.conv2", f"{name}.bn2", inner, inner, 3)
            draw(f"{name}.conv3", f"{name}.bn3", 4 * inner, inner, 1)
            if unit == 0:
                draw(f"{name}.downsample.0", f"{name}.downsample.1", 4 * inner, into, 1)
            into = 4 * inner
    return arrays


def stage_maps(
    gray: NDArray[np.uint8], arrays: Arrays, last_stage: int = 4, topology: str = "v1.5"
) -> list[Tensor]:
    """Return the map of each residual stage for one 8-bit gray image."""
    x = rgb(gray) if topology == "v1.5" else bgr(gray)
    x = np.maximum(layer(x, arrays, "conv1", "bn1", 2, 3), 0)
    x = max_pool(x)
    maps = []
    for stage in range(1, last_stage + 1):
        for unit in range(UNITS[stage]):
            stride = 2 if stage > 1 and unit == 0 else 1
            x = bottleneck(
                x, arrays, f"layer{stage}.{unit}", (stride, 1) if topology == "v1" else (1, stride)
            )
        maps.append(x)
    return maps


def rgb(gray: NDArray[np.uint8]) -> Tensor:
    """As torchvision's weights expect it."""
    mean = np.array([0.485, 0.456, 0.406])[:, None, None]
    deviation = np.array([0.229, 0.224, 0.225])[:, None, None]
    normalised: Tensor = (np.stack([gray] * 3).astype(np.float64) / 255 - mean) / deviation
    return normalised


def bgr(gray: NDArray[np.uint8]) -> Tensor:
    """As Caffe's and Keras' weights expect it: the mean of ImageNet's blue, green and red."""
    mean = np.array([103.939, 116.779, 123.68])[:, None, None]
    shifted: Tensor = np.stack([gray] * 3).astype(np.float64) - mean
    return shifted


def bottleneck(x: Tensor, arrays: Arrays, name: str, strides: tuple[int, int]) -> Tensor:
    """A residual unit; strides of its first 1x1 and of its 3x3 convolution."""
    y = np.maximum(layer(x, arrays, f"{name}.conv1", f"{name}.bn1", strides[0], 0), 0)
    y = np.maximum(layer(y, arrays, f"{name}.conv2", f"{name}.bn2", strides[1], 1), 0)
    y = layer(y, arrays, f"{name}.conv3", f"{name}.bn3", 1, 0)
    if f"{name}.downsample.0.weight" in arrays:
        x = layer(x, arrays, f"{name}.downsample.0", f"{name}.downsample.1", max(strides), 0)
    summed: Tensor = np.maximum(x + y, 0)
    return summed


def layer(x: Tensor, arrays: Arrays, convolution: str, norm: str, stride: int, padding: int) -> Tensor:
    """A convolution and its normalisation; only v1 has a bias, and with it Keras' epsilon."""
    x = convolve(x, arrays[f"{convolution}.weight"], stride, padding)
    bias = arrays.get(f"{convolution}.bias")
    if bias is None:
        return normalise(x, arrays, norm)
    return normalise(x + bias[:, None, None], arrays, norm, 1.001e-5)


def convolve(x: Tensor, kernel: NDArray[np.float32], stride: int, padding: int) -> Tensor:
    """Cross-correlation as torch.nn.Conv2d defines it, zeros around."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(1, 2))
    result: Tensor = np.einsum(
        "cyxij,ocij->oyx", windows[:, ::stride, ::stride], kernel.astype(np.float64), optimize=True
    )
    return result


def normalise(x: Tensor, arrays: Arrays, name: str, epsilon: float = 1e-5) -> Tensor:
    """torch.nn.BatchNorm2d in evaluation."""
    gain = arrays[f"{name}.weight"] / np.sqrt(arrays[f"{name}.running_var"].astype(np.float64) + epsilon)
    shift = arrays[f"{name}.bias"] - arrays[f"{name}.running_mean"] * gain
    normalised: Tensor = x * gain[:, None, None] + shift[:, None, None]
    return normalised


def max_pool(x: Tensor, stride: int = 2) -> Tensor:
    """torch.nn.MaxPool2d(3, stride, padding=1), minus infinity around."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    pooled: Tensor = windows[:, ::stride, ::stride].max(axis=(3, 4))
    return pooled
