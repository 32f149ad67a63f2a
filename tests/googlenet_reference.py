"""GoogLeNet in plain NumPy: arXiv:1409.4842, table 1 and figure 2b, a normalisation behind each convolution.

It shares no code with the network: it is what the network is checked against.
"""

import numpy as np
from numpy.typing import NDArray

from tests.resnet_reference import Arrays, Tensor, bgr, convolve, max_pool, normalise

# Rows of table 1: input channels; #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj; kernel weights in K.
TABLE_1 = {
    "3a": (192, (64, 96, 128, 16, 32, 32), 159),
    "3b": (256, (128, 128, 192, 32, 96, 64), 380),
    "4a": (480, (192, 96, 208, 16, 48, 64), 364),
    "4b": (512, (160, 112, 224, 24, 64, 64), 437),
    "4c": (512, (128, 128, 256, 24, 64, 64), 463),
    "4d": (512, (112, 144, 288, 32, 64, 64), 580),
    "4e": (528, (256, 160, 320, 32, 128, 128), 840),
    "5a": (832, (256, 160, 320, 32, 128, 128), 1072),
    "5b": (832, (384, 192, 384, 48, 128, 128), 1388),
}
EPSILON = 1e-3


def random_weights(seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw weights that keep activations in range."""
    random = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.float32]] = {}

    def draw(name: str, out: int, into: int, kernel: int) -> None:
        scale = np.sqrt(2 / (into * kernel * kernel))
        shape = (out, into, kernel, kernel)
        arrays[f"{name}.conv.weight"] = (random.standard_normal(shape) * scale).astype(np.float32)
        for part, low, high in (("weight", 0.5, 1.0), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2)):
            arrays[f"{name}.bn.{part}"] = random.uniform(low, high, out).astype(np.float32)
        arrays[f"{name}.bn.running_var"] = random.uniform(0.5, 2.0, out).astype(np.float32)

    draw("conv1", 64, 3, 7)
    draw("conv2", 64, 64, 1)
    draw("conv3", 192, 64, 3)
    for module, (into, (one, three_reduce, three, five_reduce, five, pool), _) in TABLE_1.items():
        name = f"inception{module}"
        draw(f"{name}.branch1", one, into, 1)
        draw(f"{name}.branch2.0", three_reduce, into, 1)
        draw(f"{name}.branch2.1", three, three_reduce, 3)
        draw(f"{name}.branch3.0", five_reduce, into, 1)
        draw(f"{name}.branch3.1", five, five_reduce, 5)
        draw(f"{name}.branch4.1", pool, into, 1)
    return arrays


def stage_maps(gray: NDArray[np.uint8], arrays: Arrays) -> list[Tensor]:
    """Return the maps before each maximum that halves, but the first, and the last one."""

    def run(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = arrays[f"{name}.conv.weight"]
        x = convolve(x, kernel, stride, kernel.shape[2] // 2)
        return np.maximum(normalise(x, arrays, f"{name}.bn", EPSILON), 0)

    def module(x: Tensor, name: str) -> Tensor:
        three = run(run(x, f"{name}.branch2.0"), f"{name}.branch2.1")
        five = run(run(x, f"{name}.branch3.0"), f"{name}.branch3.1")
        pool = run(max_pool(x, 1), f"{name}.branch4.1")
        return np.concatenate([run(x, f"{name}.branch1"), three, five, pool])

    x = run(run(max_pool(run(bgr(gray), "conv1", 2)), "conv2"), "conv3")
    maps = [x]
    for stage in ("3ab", "4abcde", "5ab"):
        x = max_pool(x)
        for letter in stage[1:]:
            x = module(x, f"inception{stage[0]}{letter}")
        maps.append(x)
    return maps
