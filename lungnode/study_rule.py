"""From the probabilities of slices to the probability of their study."""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from lungnode.logits import to_logits, to_probabilities


def study_probability(probabilities: NDArray[np.float32], share: float, offset: float) -> float:
    """Return the probability of a study from those of its slices.

    It rests on the most suspicious `share` of the slices, at least one of them: pneumonia often fills a small
    part of the lung, so that a mean over all would dilute it, and the highest slice alone would let one error
    decide. The mean of their logits is lowered by `offset`, for the most suspicious slices of a healthy lung
    are above its average too.
    """
    count = max(1, ceil(share * len(probabilities)))
    logit = to_logits(np.sort(probabilities)[-count:]).mean() - offset
    return float(to_probabilities(logit))
