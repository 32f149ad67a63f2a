"""What an analysis finds: values that the report, the heatmaps and the command line all read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lungnode.heatmap import ClassMap
from lungnode.pixels import Box


class Verdict(StrEnum):
    """What is said of an image or a study."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    UNDETERMINED = "undetermined"  # analysed, but the input was too incomplete to say "negative"
    NOT_APPLICABLE = "not_applicable"  # no axial chest CT
    ERROR = "error"  # a chest CT that could not be analysed


@dataclass(frozen=True)
class SliceFinding:
    """One analysed slice, in the study's order from top to bottom."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None  # 1-based frame of a multi-frame image; None for a single-frame one
    position_mm: float  # along the slice normal
    probability: float  # of the finding, in [0, 1]
    class_map: ClassMap  # activation of the finding over `box`
    box: Box  # the part of the source matrix that the network saw


@dataclass(frozen=True)
class StudyFinding:
    """The result of one analysis."""

    verdict: Verdict
    probability: float | None  # None unless slices were analysed
    threshold: float
    reason: str  # one sentence; empty when the verdict says it all
    series_instance_uid: str = ""  # of the chosen series
    choice: tuple[str, ...] = ()  # why this series and these slices, a sentence each
    slices: tuple[SliceFinding, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a reader says instead of the algorithm."""

    reader: str  # the account, in ASCII
    verdict: Verdict  # positive, negative or undetermined
    remark: str
    revision: int  # whose report states it


@dataclass(frozen=True)
class Context:
    """What the outputs say beside the finding: taken from rows and settings, never from the clock."""

    study_instance_uid: str
    revision: int
    created_at: str  # ISO 8601 with zone, of the analysis row
    completeness: str  # for example "quiet: no gaps"
    model_name: str
    model_version: str
    model_digest: str  # SHA-256 of the weights, hexadecimal
    runtime: str = ""  # what ran the model: "openvino int8"; empty where that is not told
    qualification: str = "RESEARCH"
    # Earlier reports by output group: series, SOP class and SOP Instance UID each.
    predecessors: Mapping[str, tuple[tuple[str, str, str], ...]] = field(default_factory=dict)
    heatmaps: int = 20  # slices shown, at most
    summary_identification: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    corrected: Mapping[str, str] = field(default_factory=dict)  # of the patient, by keyword
    reading: Reading | None = None  # the last one, of this revision or an earlier one

    @property
    def stated(self) -> Reading | None:
        """What a reader says, where this revision is the corrected report that states it."""
        return self.reading if self.reading and self.reading.revision == self.revision else None
