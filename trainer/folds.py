"""Splits that never part what belongs to one patient."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


def grouped_folds(groups: Sequence[str], folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield the training and the held-out rows of each fold; a group is whole in one of them."""
    names = np.asarray(groups)
    shuffled = np.random.default_rng(seed).permutation(np.unique(names))
    for number in range(folds):
        held_out = np.isin(names, shuffled[number::folds])
        yield np.flatnonzero(~held_out), np.flatnonzero(held_out)
