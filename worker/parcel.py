"""What is sent to one destination, and how far it came."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydicom.filereader import read_file_meta_info

from lungnode.settings import ReportClass
from worker.answers import Answer, Meaning, outcome

# The group of each class of the report; the most telling first.
REPORT_GROUPS: Final[dict[ReportClass, str]] = {
    "comprehensive-3d": "sr",
    "comprehensive": "sr-comp",
    "enhanced": "sr-enh",
}


def groups_to_choose_from(group: str, classes: Sequence[ReportClass] = tuple(REPORT_GROUPS)) -> list[str]:
    """Return what may be sent for a group: for a report that is not negotiated, one of these classes."""
    base, mark, character_set = group.partition("+")
    if base not in REPORT_GROUPS.values():
        return [group]
    return [REPORT_GROUPS[name] + mark + character_set for name in classes]


@dataclass(frozen=True)
class Item:
    """One instance or message to send, and what the peer said of it so far."""

    identifier: str  # SOP Instance UID, or what the message is known by
    sop_class_uid: str = ""  # empty: a message
    path: Path = Path()  # of an instance
    text: str = ""  # of a message
    tries: int = 0
    answer: Answer | None = None
    resent: bool = False  # a courier that was killed may have sent it

    @property
    def transfer_syntax_uid(self) -> str:
        """How the file is encoded; it is read from the file."""
        return str(read_file_meta_info(self.path).TransferSyntaxUID)

    @property
    def meaning(self) -> Meaning:
        """Where the instance stands: STORED, REFUSED or AGAIN."""
        if self.answer is None:
            return Meaning.AGAIN
        return outcome(self.answer.meaning, self.tries, resent=self.resent)

    @property
    def settled(self) -> bool:
        """Whether it need not be sent any more."""
        return self.meaning is not Meaning.AGAIN

    @property
    def _key(self) -> str:
        return "sop_instance_uid" if self.sop_class_uid else "message"

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return f"{'instance' if self.sop_class_uid else 'message'} {self.identifier}"

    def recalled(self, records: Iterable[dict[str, Any]]) -> "Item":
        """Return it with what earlier attempts recorded of it."""
        for record in records:
            if record.get(self._key) == self.identifier:
                told = (record["comment"], record["advice"])
                answer = Answer(record["status"], Meaning(record["meaning"]), *told)
                return replace(self, tries=record["tries"], answer=answer)
        return self

    def answered(self, answer: Answer) -> "Item":
        """Return the instance after one more try."""
        return replace(self, tries=self.tries + 1, answer=answer)

    def as_record(self) -> dict[str, Any]:
        """Return what the delivery's row keeps."""
        answer = self.answer or Answer("", Meaning.AGAIN)
        return {
            self._key: self.identifier,
            "status": answer.status,
            "meaning": self.meaning,
            "comment": answer.comment,
            "advice": answer.advice,
            "tries": self.tries,
        }


@dataclass(frozen=True)
class Parcel:
    """One delivery: the output group, or for a report not yet negotiated, the groups to choose from."""

    group: str
    choices: dict[str, tuple[Item, ...]] = field(default_factory=dict)
    negotiated: bool = True  # False: the class of the report is still open

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
        """Replace the item of the same identifier."""
        items = tuple(item if each.identifier == item.identifier else each for each in self.items)
        return Parcel(self.group, {self.group: items})

    def trouble(self, *, quote: bool = True) -> str:
        """Say what became of the first instance that the peer did not store; empty without one.

        Without `quote` the peer's own words, which may name a patient, are left out.
        """
        item = self._troubled
        if item is None:
            return ""
        if item.answer is None:
            return f"It stopped before {item.title}."
        if not item.answer.status:
            return f"No answer came to {item.title}: {item.answer.comment}."
        comment = f" ({item.answer.comment})" if item.answer.comment and quote else ""
        return f"The destination answered {item.answer.status}{comment} to {item.title}."

    @property
    def advice(self) -> str:
        """What an operator can do about the trouble."""
        item = self._troubled
        return item.answer.advice if item and item.answer else ""

    @property
    def _troubled(self) -> Item | None:
        unsettled = (item for item in self.items if item.meaning is not Meaning.STORED)
        return min(unsettled, key=lambda item: item.answer is None, default=None)
