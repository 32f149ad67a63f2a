"""The price of JPEG: the same slices as they are and at several qualities. Source: the paper, 2.3.1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungnode.pixels import read_image
from lungnode.runtime import Model
from trainer.evaluate import look, predict
from trainer.grays import load_gray
from trainer.jpeg import encode_jpeg
from trainer.metrics import auc, measure
from trainer.progress import Progress, Silence
from trainer.samples import Sample

QUALITIES: Final = (95, 75, 50, 25, 10)
MOST: Final = 200  # slices looked at, spread evenly: each goes through the network once a quality
TOGETHER: Final = 8  # slices whose variants go through the network at once
SILENCE: Final = Silence()
_LOSSY: Final = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Price:
    """What one quality costs; changes are against the slices as they are."""

    quality: int | None  # None: as they are
    bytes_per_slice: float  # of the file
    acc: float
    auc: float
    mean_change: float  # of the probability
    largest_change: float
    other_verdicts: int  # slices on the other side of the threshold


def price_of_compression(
    model: Model,
    samples: Sequence[Sample],
    qualities: Sequence[int] = QUALITIES,
    progress: Progress = SILENCE,
) -> list[Price]:
    """Measure the model on the slices as they are and at each quality.

    Slices that are JPEG already are left out: what they lost is lost. Empty where there are no others.

    Raises:
        UnusableError: A file cannot be read as a slice.
        UnavailableError: A file is away.
    """
    chosen = _spread([sample for sample in samples if sample.path.suffix.lower() not in _LOSSY])
    progress.begin("compress", len(chosen))
    scores = np.zeros((len(chosen), 1 + len(qualities)))
    sizes = np.zeros_like(scores)
    for start in range(0, len(chosen), TOGETHER):
        part = chosen[start : start + TOGETHER]
        grays = [load_gray(sample) for sample in part]
        rows = slice(start, start + len(part))
        files = [[encode_jpeg(gray, quality) for quality in qualities] for gray in grays]
        sizes[rows, 0] = [sample.path.stat().st_size for sample in part]
        sizes[rows, 1:] = [[len(file) for file in row] for row in files]
        seen = [
            look(shown, sample, model.info)
            for sample, gray, row in zip(part, grays, files, strict=True)
            for shown in (gray, *map(read_image, row))
        ]
        scores[rows] = predict(model, seen)[0].reshape(len(part), -1)
        progress.advance(len(part))
    return _prices(scores, sizes, chosen, qualities, model.info.threshold) if chosen else []


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    rows = np.linspace(0, len(samples) - 1, min(MOST, len(samples))).round().astype(int)
    return [samples[row] for row in rows]


def _prices(
    scores: NDArray[np.float64],
    sizes: NDArray[np.float64],
    samples: Sequence[Sample],
    qualities: Sequence[int],
    threshold: float,
) -> list[Price]:
    labels = np.array([sample.positive for sample in samples])
    changes = np.abs(scores - scores[:, :1])
    others = (scores >= threshold) != (scores[:, :1] >= threshold)
    return [
        Price(
            quality,
            float(sizes[:, column].mean()),
            measure(scores[:, column], labels, threshold).acc,
            auc(scores[:, column], labels),
            float(changes[:, column].mean()),
            float(changes[:, column].max()),
            int(others[:, column].sum()),
        )
        for column, quality in enumerate((None, *qualities))
    ]
