"""The networks: a backbone's residual, Inception or VGG stages, and a class-map head.

    gray (n, size, size, 1) -> normalisation -> stem -> stages 1 to 4 -> head -> class maps, logits

Every backbone is cut into a stem and four stages of the same strides, 4, 8, 16 and 32, so a recipe's
`stages` and `frozen` mean the same for each of them. Only the stages that the head needs are built.

Importing this package imports TensorFlow.
"""

from lungnode.network.build import build_network, split_network
from lungnode.network.head import add_head
from lungnode.network.lean import add_lean_head, split_head
from lungnode.network.weights import get_weights, set_weights
from lungnode.weights_file import Weights, write_weights

__all__ = [
    "Weights",
    "add_head",
    "add_lean_head",
    "build_network",
    "get_weights",
    "set_weights",
    "split_head",
    "split_network",
    "write_weights",
]
