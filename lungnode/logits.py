"""Between probabilities and logits."""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

CERTAIN: Final = 1e-6  # probabilities nearer to 0 or 1 have no usable logit


def to_logits(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the logit of each probability."""
    certain = np.asarray(probabilities, np.float64).clip(CERTAIN, 1 - CERTAIN)
    logits: NDArray[np.float64] = np.log(certain / (1 - certain))
    return logits


def to_probabilities(logits: float | NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability of each logit, without overflow at large ones."""
    probabilities: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64)))
    return probabilities
