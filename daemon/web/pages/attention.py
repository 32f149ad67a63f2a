"""What needs somebody first, and what to do about it; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from daemon.web.alerts.conditions import STORE_AWAY, Wrong


@dataclass(frozen=True)
class Step:
    """What to do about one kind of trouble."""

    kind: str  # class in the style sheet: bad when something is lost or stands still, else warn
    words: str
    link: str = ""
    address: str = ""


@dataclass(frozen=True)
class Concern:
    """One thing that needs somebody."""

    fact: str
    step: Step


# The order is that of the list: what stops senders first, what can wait last.
STEPS: Final = MappingProxyType(
    {
        "disk full": Step(
            "bad", "Senders are refused until there is space: free some, or move the folder to a larger disk."
        ),
        STORE_AWAY: Step(
            "bad",
            "What comes waits in the spool, and nothing is lost. See whether the store answers and takes our "
            "keys: lungnode check tries it.",
        ),
        "program silent": Step(
            "bad",
            "Look into its log, and start it again unless its supervisor does.",
            "Programs",
            "#programs",
        ),
        "deliveries ended badly": Step(
            "bad", "Read what the destination said, mend that, then retry.", "Dead letters", "#dead"
        ),
        "analyses quarantined": Step(
            "bad",
            "Every attempt failed. Each study says why; mend that, then analyse it again.",
            "These studies",
            "/?analysis=quarantined",
        ),
        "destination silent": Step(
            "bad",
            "Check address and AE titles on both sides, then ask again.",
            "Destinations",
            "#destinations",
        ),
        "certificate": Step("warn", "Renew it; peers refuse one that has expired."),
        "analyses wait": Step(
            "warn",
            "See whether an analysis worker is alive; another one shortens the queue.",
            "Programs",
            "#programs",
        ),
        "deliveries wait": Step(
            "warn",
            "See whether a delivery worker is alive and the destination answers.",
            "Destinations",
            "#destinations",
        ),
        "program waits": Step(
            "warn", "It goes on by itself once what it waits for is back.", "Programs", "#programs"
        ),
        "disk low": Step("warn", "Free space soon: below the second watermark senders are refused."),
        "no destination": Step(
            "warn", "Add a [[destinations]] table to the settings file: results go nowhere."
        ),
        "files set aside": Step(
            "warn", "lungnode studies list --quarantined says why; tell the sender's vendor."
        ),
    }
)
_ORDER: Final = tuple(STEPS)


def concerns(wrong: Iterable[Wrong]) -> list[Concern]:
    """Return what is wrong with the next step, what is most urgent first."""
    ordered = sorted(wrong, key=lambda each: _ORDER.index(each.name))
    return [Concern(each.statement, STEPS[each.name]) for each in ordered]
