"""The figures of an evaluation as one JSON document: `evaluate --json` prints it, a model keeps it."""

import math
from dataclasses import asdict
from typing import Any, Final, Literal

from lungnode.errors import UnusableError
from lungnode.model_folder import ModelInfo
from lungnode.roc import roc
from trainer.bootstrap import intervals
from trainer.calibration import brier, reliability
from trainer.evaluate import Evaluation, Scored
from trainer.metrics import confusion, measure

Level = Literal["slices", "studies"]
SEED: Final = 0  # of the bootstrap: the same samples have the same intervals
DIGITS: Final = 4
FEW: Final = 10  # patients of a class: with fewer, a figure says little, and its interval less


def document(evaluation: Evaluation, level: Level = "slices") -> dict[str, Any]:
    """Return the figures of one model at one level.

    Raises:
        UnusableError: Studies are asked for and no sample belongs to one.
    """
    info = evaluation.info
    return {
        **figures(scored(evaluation, level), info.threshold),
        "threshold": info.threshold,
        "model": name(info),
        "level": level,
        "data": {"digest": evaluation.digest, "test_set": evaluation.test_set or None},
    }


def figures(chosen: Scored, threshold: float) -> dict[str, Any]:
    """Return counts, metrics, intervals and calibration; what is undefined is None."""
    scores, labels = chosen.scores, chosen.labels
    bounds = intervals(scores, labels, chosen.groups, threshold, SEED)
    return {
        "n": len(labels),
        "positive": int(labels.sum()),
        "groups": len(set(chosen.groups)),
        **{key: plain(value) for key, value in asdict(measure(scores, labels, threshold)).items()},
        "confidence_intervals": {key: [plain(low), plain(high)] for key, (low, high) in bounds.items()},
        "confusion": asdict(confusion(scores, labels, threshold)),
        "roc": roc(scores, labels).points() if 0 < labels.sum() < len(labels) else None,
        "ece": plain(reliability(scores, labels).ece),
        "brier": plain(brier(scores, labels)),
        "few_patients": has_few_patients(chosen),
    }


def has_few_patients(chosen: Scored) -> bool:
    """Say whether a class that is there has too few patients for a conclusion."""
    patients: dict[bool, set[str]] = {True: set(), False: set()}
    for group, is_sick in zip(chosen.groups, chosen.labels.tolist(), strict=True):
        patients[is_sick].add(group)
    return any(0 < len(groups) < FEW for groups in patients.values())


def scored(evaluation: Evaluation, level: Level) -> Scored:
    """Return what was said at a level.

    Raises:
        UnusableError: No sample belongs to a study.
    """
    if level == "slices":
        return evaluation.slices
    if evaluation.studies is None:
        raise UnusableError("No sample belongs to a study: there is nothing to measure at study level.")
    return evaluation.studies


def name(info: ModelInfo) -> str:
    """Name a model so that it can be told from every other."""
    return f"{info.name} {info.version} (sha256 {info.digest})"


def plain(value: float) -> float | None:
    """Round; JSON has no NaN."""
    return None if math.isnan(value) else round(value, DIGITS)
