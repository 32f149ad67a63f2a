"""What a model says of labelled slices, and of the studies that they belong to; measured as a worker does."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lungnode.activation import show_maps
from lungnode.depth import read_in_depth
from lungnode.logits import to_logits
from lungnode.model_folder import ModelInfo
from lungnode.pixels import Box, Gray
from lungnode.runtime import ClassMaps, Model, Probabilities
from lungnode.study_rule import study_probability
from lungnode.views import find_place, join_views, ways_of
from trainer.grays import load_gray
from trainer.located import Located, locate
from trainer.manifest import digest_samples
from trainer.metrics import Labels, Scores
from trainer.neighbours import stacks
from trainer.progress import Progress, Silence
from trainer.samples import Sample, Split

THREADS: Final = 4  # the codecs release the GIL
PART: Final = 32  # pictures decoded before the model is asked; of a study all slices are
SILENCE: Final = Silence()


@dataclass(frozen=True)
class Scored:
    """What was said of slices or of studies, and what is true of them."""

    names: tuple[str, ...]  # the path of a slice, the UID or name of a study
    groups: tuple[str, ...]  # patients
    labels: Labels
    scores: Scores  # probabilities
    first: NDArray[np.intp]  # the sample, or the first sample of the study: it has the attributes


@dataclass(frozen=True)
class Evaluation:
    """One model on one list of samples."""

    info: ModelInfo
    samples: tuple[Sample, ...]
    slices: Scored
    studies: Scored | None  # None where no sample belongs to a study
    located: tuple[Located, ...]  # every infected slice
    digest: str  # SHA-256 of what was measured on: files and labels, or a frozen set's own
    test_set: str = ""  # name of the frozen set

    def logits(self) -> Scores:
        """Return the slices' logits in the network's own unit, before calibration."""
        readings = [self.info.decision.reading(alone=not sample.study) for sample in self.samples]
        intercepts = np.array([reading.intercept for reading in readings])
        slopes = np.array([reading.map_slope for reading in readings])
        logits: Scores = (to_logits(self.slices.scores) - intercepts) / slopes
        return logits


def evaluate(model: Model, samples: Sequence[Sample], progress: Progress = SILENCE) -> Evaluation:
    """Let the model judge every sample, and every study by its samples.

    Raises:
        UnusableError: A file cannot be read as a slice.
        UnavailableError: A file is away.
    """
    progress.begin("evaluate", len(samples))
    scores: Scores = np.zeros(len(samples))
    located: dict[int, Located] = {}
    for rows, seen in _parts(samples, model.info):
        probabilities, class_maps = predict(model, seen)
        for members, positions_mm in stacks((at, samples[row]) for at, row in enumerate(rows)):
            probabilities[members], class_maps[members] = read_in_depth(
                probabilities[members], class_maps[members], positions_mm, model.info.recipe
            )
        scores[rows] = probabilities
        shown = show_maps(class_maps, model.info.decision.map_scale)
        located |= {
            row: locate(row, slice_.gray, slice_.box, class_map)
            for row, slice_, class_map in zip(rows, seen, shown, strict=True)
            if samples[row].positive
        }
        progress.advance(len(rows))
    slices = _slices(samples, scores)
    studies = _studies(slices, samples, model.info)
    ordered = tuple(located[row] for row in sorted(located))
    return Evaluation(model.info, tuple(samples), slices, studies, ordered, digest_samples(samples))


def part(evaluation: Evaluation, split: Split | None) -> Evaluation:
    """Return what was measured on one split; None is all of it."""
    if split is None or all(sample.split is split for sample in evaluation.samples):
        return evaluation
    rows = [number for number, sample in enumerate(evaluation.samples) if sample.split is split]
    place = {row: number for number, row in enumerate(rows)}
    samples = tuple(evaluation.samples[row] for row in rows)
    slices = _slices(samples, evaluation.slices.scores[rows])
    located = tuple(
        replace(each, index=place[each.index]) for each in evaluation.located if each.index in place
    )
    studies = _studies(slices, samples, evaluation.info)
    return Evaluation(evaluation.info, samples, slices, studies, located, digest_samples(samples))


def main_split(samples: Sequence[Sample]) -> Split | None:
    """Return the split that counts: the test split, else the validation split, else (None) all samples."""
    splits = {sample.split for sample in samples}
    return next((split for split in (Split.TEST, Split.VALIDATION) if split in splits), None)


@dataclass(frozen=True)
class Seen:
    """A slice, and what of it the network sees."""

    gray: Gray
    box: Box
    images: NDArray[np.uint8]  # shape (views, size, size)
    alone: bool  # no study surrounds it


def look(gray: Gray, sample: Sample, info: ModelInfo) -> Seen:
    """Look at a slice in the ways of the recipe."""
    alone = not sample.study
    places = [find_place(gray, way, info.recipe.input) for way in ways_of(info.recipe.input, alone=alone)]
    return Seen(gray, places[0].box, np.stack([place.take(gray) for place in places]), alone)


def predict(model: Model, seen: Sequence[Seen]) -> tuple[Probabilities, ClassMaps]:
    """Return the probability of each slice, and the class map of the first way it was looked at."""
    found: dict[int, tuple[Any, Any]] = {}
    for alone in {slice_.alone for slice_ in seen}:
        rows = [row for row, slice_ in enumerate(seen) if slice_.alone is alone]
        each, class_maps = model.predict(np.concatenate([seen[row].images for row in rows]), alone=alone)
        views = len(seen[rows[0]].images)  # as many of each, for they are looked at alike
        joined = join_views(each.reshape(-1, views))
        found |= {row: (joined[at], class_maps[at * views]) for at, row in enumerate(rows)}
    ordered = [found[row] for row in range(len(seen))]
    return np.array([each for each, _ in ordered], np.float32), np.stack([shown for _, shown in ordered])


def _parts(samples: Sequence[Sample], info: ModelInfo) -> Iterator[tuple[list[int], list[Seen]]]:
    """Yield the numbers of samples with what is seen of them; a study's slices come together."""

    def see(row: int) -> Seen:
        return look(load_gray(samples[row]), samples[row], info)

    studies: dict[str, list[int]] = {}
    for row, sample in enumerate(samples):
        studies.setdefault(sample.study, []).append(row)
    alone = studies.pop("", [])
    parts = [alone[start : start + PART] for start in range(0, len(alone), PART)]
    with ThreadPoolExecutor(THREADS, "read") as pool:
        for rows in (*parts, *studies.values()):
            yield rows, list(pool.map(see, rows))


def _slices(samples: Sequence[Sample], scores: Scores) -> Scored:
    return Scored(
        tuple(str(sample.path) for sample in samples),
        tuple(sample.group for sample in samples),
        np.array([sample.positive for sample in samples], np.bool_),
        scores,
        np.arange(len(samples)),
    )


def _studies(slices: Scored, samples: Sequence[Sample], info: ModelInfo) -> Scored | None:
    """Judge each study by its slices; one with a sick slice is sick."""
    names = np.array([sample.study for sample in samples])
    studies = [study for study in dict.fromkeys(names.tolist()) if study]
    if not studies:
        return None
    rows = [np.flatnonzero(names == study) for study in studies]
    share, offset = info.recipe.study.suspicious_share, info.decision.study_offset
    found = [study_probability(slices.scores[of].astype(np.float32), share, offset) for of in rows]
    return Scored(
        tuple(studies),
        tuple(samples[of[0]].group for of in rows),
        np.array([slices.labels[of].any() for of in rows]),
        np.array(found),
        np.array([of[0] for of in rows]),
    )
