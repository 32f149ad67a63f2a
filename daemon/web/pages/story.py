"""What came of one revision of a study, as its page tells it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from daemon.web.pages.stages import Mark, delivery_mark
from db.deliveries import ENDED_BADLY, outlook
from db.models import UNFINISHED_ANALYSES, Analysis, AnalysisState, Delivery

# In the order in which they are done; decoding and predicting overlap.
_PHASES: Final = (
    ("wait", "waited"),
    ("read", "files read"),
    ("choose", "series chosen"),
    ("decode", "slices decoded"),
    ("coverage", "lung found"),
    ("predict", "slices classified"),
    ("compose", "results composed"),
    ("write", "results written"),
)


@dataclass(frozen=True)
class Phase:
    """One phase of an analysis, as a bar."""

    name: str
    seconds: float
    start: float  # of the whole, in percent
    width: float


@dataclass(frozen=True)
class Sent:
    """One output group on its way to one destination."""

    row: Delivery
    mark: Mark
    said: Sequence[str]  # by the peer, in its own words
    step: str
    can_retry: bool


def phases_of(analysis: Analysis) -> list[Phase]:
    """Return how long what took, one after the other; waiting is told and not drawn."""
    seconds: Mapping[str, Any] = analysis.phases or {}
    total = sum(float(each) for name, each in seconds.items() if name != "wait") or 1.0
    found, start = [], 0.0
    for name, words in _named(seconds):
        width = 0.0 if name == "wait" else 100 * float(seconds[name]) / total
        found.append(Phase(words, float(seconds[name]), start, width))
        start += width
    return found


def _named(seconds: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    known = dict(_PHASES)
    yield from ((name, words) for name, words in _PHASES if name in seconds)
    yield from ((name, name) for name in seconds if name not in known)


def is_finished(analysis: Analysis) -> bool:
    """Tell whether nothing more comes of an analysis by itself."""
    return AnalysisState(analysis.state) not in UNFINISHED_ANALYSES


def sent_of(analysis: Analysis, max_attempts: int) -> list[Sent]:
    """Return the deliveries of an analysis in their order."""
    return [_sent(row, max_attempts) for row in analysis.deliveries]


def _sent(row: Delivery, max_attempts: int) -> Sent:
    can_retry = row.state in ENDED_BADLY
    return Sent(row, delivery_mark(row.state), _said(row), outlook(row, max_attempts), can_retry)


def _said(row: Delivery) -> list[str]:
    """Return what the peer said of the instances, each answer once; not again what the reason quotes."""
    told = Counter((str(each.get("status") or ""), str(each.get("comment") or "")) for each in row.instances)
    return [
        f"{status} {comment}".strip() + (f", to {count} instances" if count > 1 else "")
        for (status, comment), count in told.items()
        if not (status in row.reason and comment in row.reason)
    ]
