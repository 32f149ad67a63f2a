"""Figures of parts of a test: by sex, age, maker, slice thickness, symptoms, source and file type."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.document import Level, figures, scored
from trainer.evaluate import Evaluation, Scored
from trainer.metrics import Labels
from trainer.samples import Sample

UNKNOWN: Final = "unknown"
SEX: Final = {"M": "male", "F": "female", "O": "other"}
YES_NO: Final = {"yes": "symptomatic", "no": "asymptomatic"}
THICKNESS_MM: Final = (1.0, 2.0, 3.0, 5.0)  # upper ends of the classes
_FILE_TYPES: Final = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


@dataclass(frozen=True)
class Subgroup:
    """One part of a test."""

    attribute: str
    value: str
    figures: Mapping[str, Any]  # as in trainer.document


def subgroups(evaluation: Evaluation, level: Level) -> list[Subgroup]:
    """Measure each part apart; an attribute that is the same everywhere, or known nowhere, is left out."""
    whole = scored(evaluation, level)
    threshold = evaluation.info.threshold
    found = []
    for attribute, value_of in ATTRIBUTES.items():
        values = np.array([value_of(evaluation.samples[row]) for row in whole.first])
        for value in _in_order(values):
            chosen = _part(whole, values == value)
            found.append(Subgroup(attribute, value, figures(chosen, threshold)))
    return found


def _in_order(values: NDArray[np.str_]) -> list[str]:
    """Return the values that part the test, sorted, the unknown ones last."""
    names: list[str] = np.unique(values).tolist()
    return sorted(names, key=lambda name: (name == UNKNOWN, name)) if len(names) > 1 else []


def _part(whole: Scored, rows: Labels) -> Scored:
    chosen = np.flatnonzero(rows)
    return Scored(
        tuple(whole.names[row] for row in chosen),
        tuple(whole.groups[row] for row in chosen),
        whole.labels[rows],
        whole.scores[rows],
        whole.first[rows],
    )


def _attribute(name: str) -> Callable[[Sample], str]:
    return lambda sample: sample.attributes.get(name) or UNKNOWN


def _sex(sample: Sample) -> str:
    sex = sample.attributes.get("sex") or UNKNOWN
    return SEX.get(sex, sex)


def _symptoms(sample: Sample) -> str:
    return YES_NO.get(sample.attributes.get("symptomatic", ""), UNKNOWN)


def _thickness(sample: Sample) -> str:
    try:
        thickness = float(sample.attributes.get("slice_thickness_mm", "nan"))
    except ValueError:
        return UNKNOWN
    if math.isnan(thickness):
        return UNKNOWN
    below = 0.0
    for limit in THICKNESS_MM:
        if thickness <= limit:
            return f"over {below:g} to {limit:g} mm"
        below = limit
    return f"over {below:g} mm"


def _file_type(sample: Sample) -> str:
    return _FILE_TYPES.get(sample.path.suffix.lower(), "DICOM")


ATTRIBUTES: Final[Mapping[str, Callable[[Sample], str]]] = {
    "sex": _sex,
    "age": _attribute("age"),
    "manufacturer": _attribute("manufacturer"),
    "slice thickness": _thickness,
    "symptoms": _symptoms,
    "label source": _attribute("label_source"),
    "source": lambda sample: sample.source,
    "file type": _file_type,
}
