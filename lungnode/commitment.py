"""Storage commitment's vocabulary: what is asked for, what is reported, and how both are encoded.

Source: PS3.4 Annex J, Storage Commitment Service Class; PS3.3 C.14, Storage Commitment Module.
"""

import json
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from io import BytesIO
from threading import Lock
from typing import Any, Final

from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from lungnode.errors import UnusableError

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"  # PS3.4 J.3.5, Storage Commitment Push Model SOP Class
PUSH_MODEL_INSTANCE: Final = "1.2.840.10008.1.20.1.1"  # PS3.4 J.3.5, its well-known SOP Instance
REQUEST_ACTION: Final = 1  # PS3.4 Table J.3-1, Action Type ID of Request Storage Commitment
# Source: PS3.5 9.1. Leading zeros are against the rule but common, and harm nobody.
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")
_UID_LENGTH: Final = 64
_ITEM_TAG: Final = b"\xfe\xff\x00\xe0"  # PS3.5 7.5.1
_ITEM_TAG_BIG_ENDIAN: Final = b"\xff\xfe\xe0\x00"
# Bytes of a header and two short UIDs. Four megabytes of empty items would keep pydicom busy for 20 s.
_LEAST_ITEM: Final = 40
_WARNING: Final = 0xB  # Source: PS3.7 C.3: 0x0001, 0x0107, 0x0116 and 0xBxxx
# What pydicom lets pass is a setting of the whole process; the receiver decodes in many threads.
_PYDICOM: Final = Lock()


class EventType(IntEnum):
    """Source: PS3.4 Table J.3-2, Event Type ID."""

    REQUEST_SUCCESSFUL = 1
    FAILURES_EXIST = 2


class FailureReason(IntEnum):
    """Why an instance is not committed. Source: PS3.3 C.14.1.1, Failure Reason (0008,1197)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    REFERENCED_SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


@dataclass(frozen=True, order=True)
class Reference:
    """One instance whose storage is asked for or reported."""

    sop_class_uid: str
    sop_instance_uid: str
    failure_reason: int | None = None  # in a report: why it is not committed; None: it is

    def as_record(self) -> dict[str, str]:
        """Return what a row keeps."""
        reason = "" if self.failure_reason is None else f"0x{self.failure_reason:04X}"
        return {
            "sop_class_uid": self.sop_class_uid,
            "sop_instance_uid": self.sop_instance_uid,
            "failure_reason": reason,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Reference":
        """Return what `as_record` kept."""
        reason = record["failure_reason"]
        return cls(record["sop_class_uid"], record["sop_instance_uid"], int(reason, 16) if reason else None)


@dataclass(frozen=True)
class Commitment:
    """The action information of a request, or the event information of a report."""

    transaction_uid: str
    references: tuple[Reference, ...]

    @property
    def event_type(self) -> EventType:
        """Which report this is."""
        failed = any(each.failure_reason is not None for each in self.references)
        return EventType.FAILURES_EXIST if failed else EventType.REQUEST_SUCCESSFUL

    def as_json(self) -> bytes:
        """Return what goes through a file of our own."""
        records = [each.as_record() for each in self.references]
        return json.dumps({"transaction_uid": self.transaction_uid, "references": records}).encode("ascii")

    @classmethod
    def from_json(cls, content: bytes) -> "Commitment":
        """Return what `as_json` wrote."""
        value = json.loads(content)
        return cls(value["transaction_uid"], tuple(map(Reference.from_record, value["references"])))

    def data_set(self) -> Dataset:
        """Return the data set; references with a failure reason stand in the Failed SOP Sequence.

        Source: PS3.4 Tables J.3-1 and J.3-2.
        """
        ds = Dataset()
        with _lenient():  # what a peer referenced is told back as it came
            ds.TransactionUID = self.transaction_uid
            committed = [_item(each) for each in self.references if each.failure_reason is None]
            failed = [_item(each) for each in self.references if each.failure_reason is not None]
            if committed:
                ds.ReferencedSOPSequence = committed
            if failed:
                ds.FailedSOPSequence = failed
        return ds

    def encoded(self, transfer_syntax_uid: str) -> bytes:
        """Return the encoded data set."""
        syntax = UID(transfer_syntax_uid)
        encoded = encode(self.data_set(), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        return encoded or b""


def is_success(status: int) -> bool:
    """Whether a response says that the message arrived. Source: PS3.7 C.1 to C.4, Success and Warning."""
    return status in (0x0000, 0x0001, 0x0107, 0x0116) or status >> 12 == _WARNING


def decode_request(data_set: bytes, transfer_syntax_uid: str) -> Commitment:
    """Decode the action information of an N-ACTION-RQ.

    Raises:
        UnusableError: It cannot be parsed, or lacks what a request must have.
    """
    with _reading():
        ds = _decoded(data_set, transfer_syntax_uid)
        # An instance that is named twice is asked for once.
        references = tuple(dict.fromkeys(_references(ds, "ReferencedSOPSequence")))
        if not references:
            raise UnusableError("The Referenced SOP Sequence (0008,1199) is missing or empty.")
        return Commitment(_uid(ds, "TransactionUID"), references)


def decode_report(data_set: bytes, transfer_syntax_uid: str) -> Commitment:
    """Decode the event information of an N-EVENT-REPORT-RQ.

    Raises:
        UnusableError: It cannot be parsed, or lacks what a report must have.
    """
    with _reading():
        ds = _decoded(data_set, transfer_syntax_uid)
        committed = tuple(_references(ds, "ReferencedSOPSequence"))
        failed = tuple(
            replace(each, failure_reason=_failure_reason(item))
            for each, item in zip(
                _references(ds, "FailedSOPSequence"), ds.get("FailedSOPSequence") or (), strict=True
            )
        )
        if not committed + failed:
            raise UnusableError("The report names no instance.")
        return Commitment(_uid(ds, "TransactionUID"), committed + failed)


@contextmanager
def _lenient() -> Iterator[None]:
    with _PYDICOM, disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _reading() -> Iterator[None]:
    with _lenient():
        try:
            yield
        except UnusableError:
            raise
        except Exception as error:  # damaged data sets make pydicom raise almost anything
            # Its message may quote a value, so only its class is told.
            raise UnusableError(f"The data set cannot be parsed ({type(error).__name__}).") from error


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reference.failure_reason is not None:
        item.FailureReason = reference.failure_reason
    return item


def _decoded(data_set: bytes, transfer_syntax_uid: str) -> Dataset:
    syntax = UID(transfer_syntax_uid)
    tag = _ITEM_TAG if syntax.is_little_endian else _ITEM_TAG_BIG_ENDIAN
    if data_set.count(tag) * _LEAST_ITEM > len(data_set) + _LEAST_ITEM:
        raise UnusableError("The sequences have more items than references fit into.")
    return decode(BytesIO(data_set), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)


def _references(ds: Dataset, keyword: str) -> Iterator[Reference]:
    items: Iterable[Dataset] = ds.get(keyword) or ()
    for item in items:
        yield Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _failure_reason(item: Dataset) -> int:
    # Without one the peer still says that it failed.
    return int(item.get("FailureReason") or FailureReason.PROCESSING_FAILURE)


def _uid(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    if not isinstance(value, str) or len(value) > _UID_LENGTH or not _UID.fullmatch(value):
        raise UnusableError(f"{keyword} is missing or no UID after PS3.5 9.1.")
    return str(value)
