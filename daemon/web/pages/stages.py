"""Where a study stands, in a word or two: what the table and the study's page show."""

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from db.models import Analysis, AnalysisState, DeliveryState, Study, StudyState


@dataclass(frozen=True)
class Mark:
    """A word with a sign in front of it; `kind` is its class in the style sheet."""

    kind: str
    words: str
    told: str = ""  # more of it


_OF_ANALYSIS: Final = MappingProxyType(
    {
        AnalysisState.QUEUED: Mark("idle", "queued", "It waits for an analysis worker."),
        AnalysisState.RUNNING: Mark("busy", "analysing"),
        AnalysisState.FAILED: Mark("warn", "failed", "It is tried again."),
        AnalysisState.QUARANTINED: Mark("bad", "quarantined", "Every attempt failed."),
        AnalysisState.DONE: Mark("good", "analysed"),
        AnalysisState.NOT_APPLICABLE: Mark("good", "analysed", "It is no axial chest CT."),
    }
)
_OF_DELIVERY: Final = MappingProxyType(
    {
        DeliveryState.PENDING: Mark("idle", "pending"),
        DeliveryState.SENDING: Mark("busy", "sending"),
        DeliveryState.STORED: Mark("good", "stored"),
        DeliveryState.COMMITTED: Mark("good", "committed"),
        DeliveryState.REFUSED: Mark("bad", "refused"),
        DeliveryState.DEAD: Mark("bad", "dead"),
        DeliveryState.WITHDRAWN: Mark("idle", "withdrawn"),
    }
)
_BAD: Final = (DeliveryState.REFUSED, DeliveryState.DEAD)
_OPEN: Final = (DeliveryState.PENDING, DeliveryState.SENDING)


def stage_of(study: Study, analysis: Analysis | None) -> Mark:
    """Return where a study stands."""
    if study.state == StudyState.RECEIVING:
        return Mark("busy", "receiving", "Slices may still come.")
    if study.state == StudyState.WITHDRAWN:
        return Mark("idle", "withdrawn", "Rejection notes named all of its slices.")
    if analysis is None:
        return Mark("idle", "archived", "It is complete; no rule asks for its analysis.")
    return _OF_ANALYSIS[AnalysisState(analysis.state)]


def delivery_mark(state: str) -> Mark:
    """Return how a delivery stands."""
    return _OF_DELIVERY[DeliveryState(state)]


def deliveries_mark(states: Counter[str]) -> Mark | None:
    """Return how all deliveries of a result stand together; None when it has none."""
    count = states.total() - states[DeliveryState.WITHDRAWN]
    if not count:
        return None
    bad, still_open = (sum(states[state] for state in some) for some in (_BAD, _OPEN))
    if bad:
        return Mark("bad", f"{bad} of {count} failed")
    if still_open:
        return Mark("busy", f"{count - still_open} of {count} sent")
    return Mark("good", "sent")
