"""What is sent to one destination, and what the peer's answers mean."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pydicom.filereader import read_file_meta_info

from worker.destination import Answer

# The classes of the report, the most telling first: a destination gets the first that it takes.
REPORT_GROUPS: Final = ("sr", "sr-comp", "sr-enh")
_TRIES: Final = 3  # of an instance that the peer cannot process


class Meaning(Enum):
    """What a C-STORE status says about the instance."""

    STORED = "stored"
    REFUSED = "refused"  # for good
    PUZZLED = "puzzled"  # refused for good when it is said three times
    AGAIN = "again"


# Source: PS3.4 Table B.2-1 and PS3.7 Annex C. (mask, value, meaning); the first that fits counts.
_MEANINGS: Final = (
    (0xFFFF, 0x0000, Meaning.STORED),
    (0xF000, 0xB000, Meaning.STORED),  # Warning: kept, perhaps with changed elements
    (0xFFFF, 0x0117, Meaning.REFUSED),  # Invalid object instance
    (0xFFFF, 0x0122, Meaning.REFUSED),  # SOP Class not supported
    (0xFFFF, 0x0124, Meaning.REFUSED),  # Not authorized
    (0xFF00, 0xA900, Meaning.REFUSED),  # Data Set does not match SOP Class
    (0xF000, 0xC000, Meaning.PUZZLED),  # Cannot understand
)
_DUPLICATE: Final = 0x0111  # Duplicate SOP Instance


def meaning_of(status: int | None, tries: int, *, resent: bool = False) -> Meaning:
    """Classify a status that was given at the n-th try of an instance.

    `resent` tells that an attempt before these tries may have sent it without writing that down.
    """
    if status is None:
        return Meaning.AGAIN
    if status == _DUPLICATE and (resent or tries > 1):
        return Meaning.STORED  # an earlier try arrived; only its answer was lost
    found = next((m for mask, value, m in _MEANINGS if status & mask == value), Meaning.AGAIN)
    if found is Meaning.PUZZLED:
        return Meaning.REFUSED if tries >= _TRIES else Meaning.AGAIN
    return found


def groups_to_choose_from(group: str) -> tuple[str, ...]:
    """Return what may be sent for a group: for a report that no class was chosen for, all its classes."""
    base, mark, character_set = group.partition("+")
    if base != REPORT_GROUPS[0]:
        return (group,)
    return tuple(name + mark + character_set for name in REPORT_GROUPS)


@dataclass(frozen=True)
class Item:
    """One instance to send, and what the peer said of it so far."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    tries: int = 0
    status: int | None = None
    comment: str = ""
    resent: bool = False  # a courier that was killed may have sent it

    @property
    def transfer_syntax_uid(self) -> str:
        """How the file is encoded; it is read from the file."""
        return str(read_file_meta_info(self.path).TransferSyntaxUID)

    @property
    def meaning(self) -> Meaning:
        """Where the instance stands."""
        return meaning_of(self.status, self.tries, resent=self.resent)

    @property
    def settled(self) -> bool:
        """Whether it need not be sent any more."""
        return self.meaning in (Meaning.STORED, Meaning.REFUSED)

    def answered(self, answer: Answer) -> "Item":
        """Return the instance after one more try."""
        return replace(self, tries=self.tries + 1, status=answer.status, comment=answer.comment)

    def as_record(self) -> dict[str, Any]:
        """Return what the delivery's row keeps."""
        status = "" if self.status is None else f"0x{self.status:04X}"
        uid = self.sop_instance_uid
        return {"sop_instance_uid": uid, "status": status, "comment": self.comment, "tries": self.tries}


def recalled(item: Item, records: Iterable[dict[str, Any]]) -> Item:
    """Return the instance with what earlier attempts recorded of it."""
    for record in records:
        if record["sop_instance_uid"] == item.sop_instance_uid:
            status = int(record["status"], 16) if record["status"] else None
            return replace(item, tries=record["tries"], status=status, comment=record["comment"])
    return item


@dataclass(frozen=True)
class Parcel:
    """One delivery: the output group, or for a report not yet negotiated, the groups to choose from."""

    group: str
    choices: dict[str, tuple[Item, ...]] = field(default_factory=dict)

    @property
    def items(self) -> tuple[Item, ...]:
        """The instances of the group."""
        return self.choices.get(self.group, ())

    @property
    def settled(self) -> bool:
        """Whether nothing is left to send."""
        return all(item.settled for item in self.items)

    def chosen(self, group: str) -> "Parcel":
        """Fix the group: another class has another SOP Instance UID, so it must not change any more."""
        return Parcel(group, {group: self.choices[group]})

    def with_item(self, item: Item) -> "Parcel":
        """Replace the instance of the same UID."""
        items = tuple(item if i.sop_instance_uid == item.sop_instance_uid else i for i in self.items)
        return Parcel(self.group, {self.group: items})

    def without_comments(self) -> "Parcel":
        """Leave out the peer's own words, which may name a patient."""
        items = tuple(replace(item, comment="") for item in self.items)
        return Parcel(self.group, {self.group: items})

    def trouble(self) -> str:
        """Say what the peer answered to the first instance that it did not store; empty without one."""
        for item in self.items:
            if item.meaning is not Meaning.STORED:
                said = "gave no answer" if item.status is None else f"answered 0x{item.status:04X}"
                comment = f" ({item.comment})" if item.comment else ""
                return f"The destination {said}{comment} to instance {item.sop_instance_uid}."
        return ""
