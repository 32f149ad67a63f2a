"""The lesion head: what tells cells with painted lesions from cells without, and lung from all else.

It never sees the label of a slice: that a slice is of a patient says nothing of most of its places. Imports
TensorFlow.
"""

from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from lungnode.network import Weights
from lungnode.network.head import LESION_HIDDEN, LESION_MAP, LUNG_MAP
from trainer.linear import fit_linear

Cells = NDArray[np.float16]  # shape (n, rows, columns, channels): features of the cells of n slices
Rows = NDArray[np.float32]  # shape (n, channels): features of single cells
Shares = NDArray[np.floating]  # shape (n, rows, columns): of each cell, 0 to 1

LESION: Final = 0.15  # density from which a cell shows a lesion
CLEAR: Final = 0.02  # density below which it shows none; what lies between is not learnt
LUNG: Final = 0.3  # share of lung from which a cell counts as lung: much of the disease lies at the pleura
MOST: Final = 36000  # cells of each kind
OUTSIDE: Final = 18000  # cells outside the lung
LUNG_MOST: Final = 9000  # cells inside the lung, and as many outside, for the lung map
# Chosen by the cross-validated figures that docs/training.md names.
FITS: Final = 3  # networks whose mean counts
DROPOUT: Final = (0.2, 0.3)
RATE: Final = 1e-3
DECAY: Final = 0.1
LUNG_DECAY: Final = 0.001
LUNG_WEIGHT: Final = 3.0  # what is surely outside must stay below any lesion
BATCH: Final = 256
EPOCHS: Final = 4
QUIET: Final = 1e-2  # added to a feature's deviation


@dataclass(frozen=True)
class Examples:
    """Cells, and which of them show a lesion."""

    cells: Rows
    positive: NDArray[np.bool_]


def choose_cells(cells: Cells, densities: Shares, lungs: Shares, seed: int) -> Examples:
    """Draw as many cells with lesions as healthy ones of the lung, and half as many from outside of it.

    Args:
        cells: Of healthy slices, with painted lesions and without.
        densities: Of the painted lesions; NaN where nobody knows.
        lungs: Share of lung.
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    clear, inside = densities < CLEAR, lungs > LUNG
    kinds = ((densities > LESION, MOST), (clear & inside, MOST), (clear & ~inside, OUTSIDE))
    chosen = [_draw(np.argwhere(kind), most, random) for kind, most in kinds]
    roots = np.sqrt(cells)
    centres = roots.mean(axis=(1, 2), dtype=np.float32)
    places = np.concatenate(chosen)
    rows = roots[tuple(places.T)].astype(np.float32) - centres[places[:, 0]]
    return Examples(rows, np.arange(len(places)) < len(chosen[0]))


def _draw(places: NDArray[np.intp], most: int, random: np.random.Generator) -> NDArray[np.intp]:
    rows = random.choice(len(places), min(most, len(places)), replace=False)
    found: NDArray[np.intp] = places[np.sort(rows)]
    return found


def fit_lesions(examples: Examples, channels: int, seed: int) -> Weights:
    """Return the weights of the two convolutions that find lesions; the same seed gives the same ones.

    They are the mean of some networks that share the hidden channels among them.
    """
    mean = examples.cells.mean(axis=0, dtype=np.float64)
    deviation = examples.cells.std(axis=0, dtype=np.float64) + QUIET
    standard = ((examples.cells - mean) / deviation).astype(np.float32)
    targets = examples.positive.astype(np.float32)[:, np.newaxis]
    keras.utils.set_random_seed(seed)
    fits = [_fit(standard, targets, len(part)) for part in np.array_split(np.arange(channels), FITS)]
    kernel = np.concatenate([np.asarray(hidden.kernel, np.float64) for hidden, _ in fits], axis=1)
    kernel /= deviation[:, np.newaxis]
    bias = np.concatenate([np.asarray(hidden.bias) for hidden, _ in fits]) - mean @ kernel
    last = np.concatenate([np.asarray(last.kernel) for _, last in fits]) / FITS
    return {
        f"{LESION_HIDDEN}.weight": kernel.T[..., np.newaxis, np.newaxis].astype(np.float32),
        f"{LESION_HIDDEN}.bias": bias.astype(np.float32),
        f"{LESION_MAP}.weight": last.T[..., np.newaxis, np.newaxis],
        f"{LESION_MAP}.bias": np.mean([np.asarray(last.bias) for _, last in fits], axis=0),
    }


def _fit(cells: Rows, targets: Rows, channels: int) -> tuple[Any, Any]:
    """Return the two layers of one network."""
    hidden, last = layers.Dense(channels, activation="relu"), layers.Dense(1)
    network = keras.Sequential([layers.Dropout(DROPOUT[0]), hidden, layers.Dropout(DROPOUT[1]), last])
    network.compile(
        keras.optimizers.AdamW(RATE, weight_decay=DECAY), keras.losses.BinaryCrossentropy(from_logits=True)
    )
    network.fit(cells, targets, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return hidden, last


def fit_lung(cells: Cells, lungs: Shares, seed: int) -> Weights:
    """Return the weights of the convolution that is negative outside the lung."""
    random = np.random.default_rng(seed)
    chosen = [_draw(np.argwhere(kind), LUNG_MOST, random) for kind in (lungs > LUNG, lungs <= LUNG)]
    places = np.concatenate(chosen)
    inside = np.arange(len(places)) < len(chosen[0])
    rows = np.sqrt(cells[tuple(places.T)].astype(np.float32))
    linear = fit_linear(rows, inside, np.ones(len(places)), LUNG_DECAY)
    kernel = LUNG_WEIGHT * linear.kernel.astype(np.float32)
    return {
        f"{LUNG_MAP}.weight": kernel.reshape(1, -1, 1, 1),
        f"{LUNG_MAP}.bias": np.array([LUNG_WEIGHT * linear.bias], np.float32),
    }


def lesion_maps(cells: Cells, weights: Weights) -> NDArray[np.float32]:
    """Return what the head says of cells, as (n, rows, columns)."""
    values = np.sqrt(cells.astype(np.float32))
    lung = values @ weights[f"{LUNG_MAP}.weight"][0, :, 0, 0] + weights[f"{LUNG_MAP}.bias"][0]
    values -= values.mean(axis=(1, 2), keepdims=True)
    kernel, bias = weights[f"{LESION_HIDDEN}.weight"][..., 0, 0], weights[f"{LESION_HIDDEN}.bias"]
    hidden = (values @ kernel.T + bias).clip(0)
    lesions = hidden @ weights[f"{LESION_MAP}.weight"][0, :, 0, 0] + weights[f"{LESION_MAP}.bias"][0]
    found: NDArray[np.float32] = lesions + lung.clip(max=0)
    return found
