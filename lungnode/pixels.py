"""From stored pixels to the network's input: the one definition that worker and trainer share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]  # shape (rows, columns), lung window, 0 is black


@dataclass(frozen=True)
class Box:
    """A part of a matrix: rows `top` to `bottom`, columns `left` to `right`, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int
