"""What a report says, as messages repeat it: one source, so that they never differ."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from lungnode import codes

_OFFSET = re.compile(r"[+-]\d{4}")


@dataclass(frozen=True)
class Told:
    """A report, with its content at hand."""

    report: Dataset
    conclusion: str
    remarks: tuple[str, ...]
    presence: Code | None  # None: nothing was analysed; a reader's, where the report is corrected
    probability: Decimal | None
    threshold: Decimal | None
    withdrawn: str = ""  # why nothing of it counts any more
    reader: str = ""  # who says it, where the report is corrected

    @property
    def at(self) -> datetime:
        """The time of the analysis, with its zone."""
        offset = self.offset or "+0000"  # without one our reports are in UTC
        written = f"{self.report.ContentDate}{self.report.ContentTime}{offset}"
        return datetime.strptime(written, "%Y%m%d%H%M%S%z")

    @property
    def offset(self) -> str:
        """The zone of the study's times; empty where the source says none."""
        return text(self.report, "TimezoneOffsetFromUTC", _OFFSET)

    @property
    def tracking_uid(self) -> str:
        """What identifies the observation: the same in each revision of the study, corrected or not."""
        return str(next(_named(self.report, codes.TRACKING_UID)).UID)

    @property
    def request(self) -> Dataset:
        """The first request that the study answers; empty where the source names none."""
        found: list[Dataset] = self.report.get("ReferencedRequestSequence") or [Dataset()]
        return found[0]


def read_report(report: Dataset, withdrawn: str = "") -> Told:
    """Find in a report what messages say; `withdrawn` says why they are taken back."""
    conclusion = " ".join(str(item.TextValue) for item in _named(report, codes.CONCLUSION))
    return Told(
        report=report,
        conclusion=f"Withdrawn, do not use: {withdrawn}" if withdrawn else conclusion,
        remarks=tuple(str(item.TextValue) for item in _named(report, codes.COMMENT)),
        presence=_presence(report),
        probability=_number(report, codes.PROBABILITY),
        threshold=_number(report, codes.THRESHOLD),
        withdrawn=withdrawn,
        reader=next((item.PersonName.family_name for item in _named(report, codes.PERSON_NAME)), ""),
    )


def text(holder: Dataset, keyword: str, pattern: re.Pattern[str] | None = None) -> str:
    """Return an attribute as text; empty where it is absent, or is nothing that `pattern` describes."""
    value = str(holder.get(keyword) or "").strip()
    return value if pattern is None or pattern.fullmatch(value) else ""


def _presence(report: Dataset) -> Code | None:
    """Return the last one: a reader's stands behind the algorithm's."""
    found = None
    for item in _named(report, codes.PRESENCE):
        code = item.ConceptCodeSequence[0]
        found = Code(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)
    return found


def _number(report: Dataset, name: Code) -> Decimal | None:
    for item in _named(report, name):
        return Decimal(str(item.MeasuredValueSequence[0].NumericValue))
    return None


def _named(holder: Dataset, name: Code) -> Iterator[Dataset]:
    """Find the content items of a name, wherever they are in the tree."""
    for item in holder.get("ContentSequence") or ():
        concept = (item.get("ConceptNameCodeSequence") or [Dataset()])[0]
        if (concept.get("CodeValue"), concept.get("CodingSchemeDesignator")) == (
            name.value,
            name.scheme_designator,
        ):
            yield item
        yield from _named(item, name)
