"""The conformance statement says what the receiver does: its tables are the code's."""

from pathlib import Path

import pytest
from pynetdicom import AllStoragePresentationContexts

from daemon.receiver.contexts import TRANSFER_SYNTAX_RANKS
from daemon.receiver.dimse import Status
from daemon.receiver.file_meta import IMPLEMENTATION_CLASS_UID
from daemon.receiver.pdu import Rejection
from lungnode.commitment import FailureReason

STATEMENT = (Path(__file__).parents[1] / "docs/conformance.md").read_text()


def row_with(*cells: str) -> bool:
    """Whether a table's line has all these cells."""
    lines = ([cell.strip() for cell in line.split("|")] for line in STATEMENT.splitlines())
    return any(all(cell in line for cell in cells) for line in lines)


@pytest.mark.parametrize(
    "uid", sorted(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
)
def test_every_accepted_sop_class_is_listed(uid: str) -> None:
    assert row_with(uid)


@pytest.mark.parametrize(("uid", "rank"), TRANSFER_SYNTAX_RANKS.items())
def test_every_transfer_syntax_is_listed_with_its_rank(uid: str, rank: int) -> None:
    assert row_with(uid, str(rank))


@pytest.mark.parametrize("status", Status)
def test_every_status_is_listed(status: Status) -> None:
    assert row_with(f"0x{status:04X}", status.name)


@pytest.mark.parametrize("reason", FailureReason)
def test_every_failure_reason_is_listed(reason: FailureReason) -> None:
    assert row_with(f"0x{reason:04X}", reason.name) or reason is FailureReason.RESOURCE_LIMITATION


@pytest.mark.parametrize("rejection", Rejection)
def test_every_rejection_is_listed_with_its_codes(rejection: Rejection) -> None:
    result, source, reason = rejection.value[:3]
    words = (
        f"{result} {('permanent', 'transient')[result - 1]}",
        f"{source} {('user', 'ACSE', 'presentation')[source - 1]}",
    )

    assert row_with(rejection.name, *words, str(reason))


def test_the_implementation_is_identified() -> None:
    assert row_with("Implementation Class UID", IMPLEMENTATION_CLASS_UID)
