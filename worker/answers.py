"""What a peer says to one thing that was sent, and what that means for it.

The status codes of C-STORE are also the failure reasons of STOW-RS.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ASK: Final = "Ask who runs the peer: its log says why."


class Meaning(StrEnum):
    """What an answer says of what was sent."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # the peer has it already: stored, when it was sent before
    REFUSED = "refused"  # for good
    PUZZLED = "puzzled"  # refused for good when it is said three times
    AGAIN = "again"


@dataclass(frozen=True)
class Answer:
    """One answer, or that none came."""

    status: str  # as the row keeps it, for example "0xA700"; empty: nothing came in time
    meaning: Meaning
    comment: str = ""  # the peer's own words, which may name a patient; without a status, ours
    advice: str = ""  # what an operator can do


def silence(reason: str, advice: str = "") -> Answer:
    """Return that no answer came, and why."""
    return Answer("", Meaning.AGAIN, reason, advice or ASK)


@dataclass(frozen=True)
class _Status:
    mask: int
    value: int
    meaning: Meaning
    advice: str = ""


_CLASS: Final = "Let the peer take the SOP class, or change the destination's outputs."
# The first that fits counts. Source: PS3.4 Table B.2-1, PS3.7 Annex C, PS3.18 Table I.2-2.
_STATUSES: Final = (
    _Status(0xFFFF, 0x0000, Meaning.STORED),
    _Status(0xF000, 0xB000, Meaning.STORED),  # Warning: kept, perhaps with changed elements
    _Status(0xFFFF, 0x0111, Meaning.DUPLICATE),  # Duplicate SOP Instance
    _Status(0xFFFF, 0x0117, Meaning.REFUSED, ASK),  # Invalid object instance
    _Status(0xFFFF, 0x0122, Meaning.REFUSED, _CLASS),  # SOP Class not supported
    _Status(0xFFFF, 0x0124, Meaning.REFUSED, "Let the peer allow our AE title to store."),  # Not authorized
    _Status(0xFF00, 0xA700, Meaning.AGAIN, "Make room at the peer."),  # Out of resources
    _Status(0xFF00, 0xA900, Meaning.REFUSED, _CLASS),  # Data Set does not match SOP Class
    _Status(0xF000, 0xC000, Meaning.PUZZLED, ASK),  # Cannot understand
)
_OTHER: Final = _Status(0, 0, Meaning.AGAIN, ASK)
_TRIES: Final = 3  # of what the peer cannot process


def answer_of(status: int, comment: str) -> Answer:
    """Return what a status of C-STORE means."""
    found = next((each for each in _STATUSES if status & each.mask == each.value), _OTHER)
    return Answer(f"0x{status:04X}", found.meaning, comment, found.advice)


def outcome(meaning: Meaning, tries: int, *, resent: bool = False) -> Meaning:
    """Return where something stands after so many tries: STORED, REFUSED or AGAIN.

    `resent` tells that an attempt before these tries may have sent it without writing that down.
    """
    if meaning is Meaning.DUPLICATE:
        return Meaning.STORED if resent or tries > 1 else Meaning.AGAIN
    if meaning is Meaning.PUZZLED:
        return Meaning.REFUSED if tries >= _TRIES else Meaning.AGAIN
    return meaning
