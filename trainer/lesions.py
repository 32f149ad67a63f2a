"""The lesion head: two layers that tell cells with painted lesions from cells without. Imports TensorFlow.

It never sees the label of a slice: that a slice is of a patient says nothing of most of its places.
"""

from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from lungnode.network import Weights
from lungnode.network.head import LESION_HIDDEN, LESION_MAP

Cells = NDArray[np.float32]  # shape (n, channels): features of cells
Densities = NDArray[np.float32]  # shape (n,): of what is painted there, 0 to 1

LESION: Final = 0.15  # density from which a cell shows a lesion
CLEAR: Final = 0.02  # density below which it shows none; what lies between is not learnt
MOST: Final = 9000  # cells of each kind: more did not help
# Chosen by the cross-validated figures that docs/training.md names.
DROPOUT: Final = (0.2, 0.3)
RATE: Final = 1e-3
DECAY: Final = 0.1
BATCH: Final = 256
EPOCHS: Final = 4
QUIET: Final = 1e-2  # added to a feature's deviation


@dataclass(frozen=True)
class Examples:
    """Cells, and which of them show a lesion."""

    cells: Cells
    positive: NDArray[np.bool_]


def choose_cells(cells: NDArray[np.float16], densities: Densities, seed: int) -> Examples:
    """Draw as many cells with lesions as without.

    Args:
        cells: Shape (n, channels).
        densities: Of the same cells; NaN where nobody knows.
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    kinds = (np.flatnonzero(densities > LESION), np.flatnonzero(densities < CLEAR))
    chosen = [np.sort(random.choice(rows, min(MOST, len(rows)), replace=False)) for rows in kinds]
    positive = np.repeat([True, False], [len(rows) for rows in chosen])
    return Examples(cells[np.concatenate(chosen)].astype(np.float32), positive)


def fit_lesions(examples: Examples, channels: int, seed: int) -> Weights:
    """Return the weights of the lesion head's two convolutions; the same seed gives the same ones."""
    mean = examples.cells.mean(axis=0, dtype=np.float64)
    deviation = examples.cells.std(axis=0, dtype=np.float64) + QUIET
    standard = ((examples.cells - mean) / deviation).astype(np.float32)
    keras.utils.set_random_seed(seed)
    hidden, last = layers.Dense(channels, activation="relu"), layers.Dense(1)
    network = keras.Sequential([layers.Dropout(DROPOUT[0]), hidden, layers.Dropout(DROPOUT[1]), last])
    network.compile(
        keras.optimizers.AdamW(RATE, weight_decay=DECAY), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    targets = examples.positive.astype(np.float32)[:, np.newaxis]
    network.fit(standard, targets, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    kernel = np.asarray(hidden.kernel, np.float64) / deviation[:, np.newaxis]
    return {
        f"{LESION_HIDDEN}.weight": kernel.T[..., np.newaxis, np.newaxis].astype(np.float32),
        f"{LESION_HIDDEN}.bias": (np.asarray(hidden.bias) - mean @ kernel).astype(np.float32),
        f"{LESION_MAP}.weight": np.asarray(last.kernel).T[..., np.newaxis, np.newaxis],
        f"{LESION_MAP}.bias": np.asarray(last.bias),
    }


def lesion_maps(cells: NDArray[np.float16], weights: Weights) -> NDArray[np.float32]:
    """Return what the head says of cells (n, rows, columns, channels), as (n, rows, columns)."""
    kernel, bias = weights[f"{LESION_HIDDEN}.weight"][..., 0, 0], weights[f"{LESION_HIDDEN}.bias"]
    last = weights[f"{LESION_MAP}.weight"][0, :, 0, 0]
    hidden = (cells.astype(np.float32) @ kernel.T + bias).clip(0)
    found: NDArray[np.float32] = hidden @ last + weights[f"{LESION_MAP}.bias"][0]
    return found


def highest_cells(maps: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Return the mean of the highest cells of each map."""
    ranked = np.sort(maps.reshape(len(maps), -1), axis=1)
    found: NDArray[np.float64] = ranked[:, -count:].mean(axis=1, dtype=np.float64)
    return found
