"""A sample: one labelled slice, and everything that training and evaluation must know of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

POSITIVE: Final = "positive"  # how a file or a message names the two classes
NEGATIVE: Final = "negative"


class Split(StrEnum):
    """What a sample is used for; a patient is whole in one of them."""

    TRAIN = "train"
    VALIDATION = "validation"  # stops the training, calibrates, chooses the threshold
    TEST = "test"  # measured once; never trained on, never chosen by


@dataclass(frozen=True)
class Sample:
    """One slice with its label."""

    source: str  # the collection it comes from
    path: Path
    positive: bool
    group: str  # patient, or what stands for one; never in two splits
    split: Split | None = None  # None: the recipe draws it
    study: str = ""  # slices of one study are judged together; "" for a picture that stands alone
    healthy_scan: bool = False  # of a study without any sick slice: lesions may be painted into it
    # sex, age (its decade: "40-49"), manufacturer, slice_thickness_mm, symptomatic, label_source: for tables
    # and subgroups; unknown ones are absent
    attributes: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""  # SHA-256 of the file; "" until it was read
    position_mm: float | None = None  # along the slice normal of its study; None: nobody knows

    @property
    def label(self) -> str:
        """The label's name."""
        return POSITIVE if self.positive else NEGATIVE


@dataclass(frozen=True)
class Exclusion:
    """What was left out of a training, and why."""

    what: str  # a file or a Study Instance UID
    reason: str  # one sentence


@dataclass(frozen=True)
class Collection:
    """What one source of samples gave."""

    samples: tuple[Sample, ...]
    exclusions: tuple[Exclusion, ...] = ()
    notes: tuple[str, ...] = ()  # sentences that the operator is told
    is_read: bool = False  # every file was just written or read, and its digest is known
