"""What `lungnode check` answers with: one line for each part."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # works, but look at it
    WRONG = "wrong"


@dataclass(frozen=True)
class Check:
    """One line of the answer."""

    name: str
    status: Status
    message: str
    mend: str = ""
