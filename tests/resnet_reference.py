"""ResNet50 v1.5 in plain NumPy, from the paper (arXiv:1512.03385) and PyTorch's definitions of the layers.

It shares no code with the network: it is what the network is checked against.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.float64]  # shape (channels, rows, columns)
Arrays = Mapping[str, NDArray[np.float32]]
UNITS = {1: 3, 2: 4, 3: 6, 4: 3}


def random_weights(seed: int, last_stage: int = 4) -> dict[str, NDArray[np.float32]]:
    """Draw weights under torchvision's names that keep activations in range."""
    random = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.float32]] = {}

    def layer(convolution: str, norm: str, out: int, into: int, kernel: int) -> None:
        scale = np.sqrt(2 / (into * kernel * kernel))
        arrays[f"{convolution}.weight"] = (
            random.standard_normal((out, into, kernel, kernel)) * scale
        ).astype(np.float32)
        for name, low, high in (("weight", 0.5, 1.0), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2)):
            arrays[f"{norm}.{name}"] = random.uniform(low, high, out).astype(np.float32)
        arrays[f"{norm}.running_var"] = random.uniform(0.5, 2.0, out).astype(np.float32)

    layer("conv1", "bn1", 64, 3, 7)
    into = 64
    for stage in range(1, last_stage + 1):
        inner = 32 * 2**stage
        for unit in range(UNITS[stage]):
            name = f"layer{stage}.{unit}"
            layer(f"{name}.conv1", f"{name}.bn1", inner, into, 1)
            layer(f"{name}.conv2", f"{name}.bn2", inner, inner, 3)
            layer(f"{name}.conv3", f"{name}.bn3", 4 * inner, inner, 1)
            if unit == 0:
                layer(f"{name}.downsample.0", f"{name}.downsample.1", 4 * inner, into, 1)
            into = 4 * inner
    return arrays


def stage_maps(gray: NDArray[np.uint8], arrays: Arrays, last_stage: int = 4) -> list[Tensor]:
    """Return the map of each residual stage for one 8-bit gray image."""
    mean = np.array([0.485, 0.456, 0.406])[:, None, None]
    deviation = np.array([0.229, 0.224, 0.225])[:, None, None]
    x = (np.stack([gray] * 3).astype(np.float64) / 255 - mean) / deviation
    x = np.maximum(normalise(convolve(x, arrays["conv1.weight"], 2, 3), arrays, "bn1"), 0)
    x = max_pool(x)
    maps = []
    for stage in range(1, last_stage + 1):
        for unit in range(UNITS[stage]):
            x = bottleneck(x, arrays, f"layer{stage}.{unit}", 2 if stage > 1 and unit == 0 else 1)
        maps.append(x)
    return maps


def bottleneck(x: Tensor, arrays: Arrays, name: str, stride: int) -> Tensor:
    """v1.5: the stride sits in the 3x3 convolution."""
    y = np.maximum(normalise(convolve(x, arrays[f"{name}.conv1.weight"], 1, 0), arrays, f"{name}.bn1"), 0)
    y = np.maximum(
        normalise(convolve(y, arrays[f"{name}.conv2.weight"], stride, 1), arrays, f"{name}.bn2"), 0
    )
    y = normalise(convolve(y, arrays[f"{name}.conv3.weight"], 1, 0), arrays, f"{name}.bn3")
    if f"{name}.downsample.0.weight" in arrays:
        x = convolve(x, arrays[f"{name}.downsample.0.weight"], stride, 0)
        x = normalise(x, arrays, f"{name}.downsample.1")
    summed: Tensor = np.maximum(x + y, 0)
    return summed


def convolve(x: Tensor, kernel: NDArray[np.float32], stride: int, padding: int) -> Tensor:
    """Cross-correlation as torch.nn.Conv2d defines it, zeros around."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], axis=(1, 2))
    result: Tensor = np.einsum(
        "cyxij,ocij->oyx", windows[:, ::stride, ::stride], kernel.astype(np.float64), optimize=True
    )
    return result


def normalise(x: Tensor, arrays: Arrays, name: str) -> Tensor:
    """torch.nn.BatchNorm2d in evaluation, epsilon 1e-5."""
    gain = arrays[f"{name}.weight"] / np.sqrt(arrays[f"{name}.running_var"].astype(np.float64) + 1e-5)
    shift = arrays[f"{name}.bias"] - arrays[f"{name}.running_mean"] * gain
    normalised: Tensor = x * gain[:, None, None] + shift[:, None, None]
    return normalised


def max_pool(x: Tensor) -> Tensor:
    """torch.nn.MaxPool2d(3, stride=2, padding=1), minus infinity around."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    pooled: Tensor = windows[:, ::2, ::2].max(axis=(3, 4))
    return pooled
