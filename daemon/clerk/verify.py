"""Verifies what commitment requests name: each instance in the index, its file whole in the archive.

Source: PS3.4 J.3.2.2, the SCP reports what it has taken responsibility for; PS3.3 C.14.1.1, Failure Reason.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from sqlalchemy.orm import Session

from daemon.receiver.contexts import is_storage
from db import commitments, intake
from db.models import CommitmentRequest, Instance
from lungnode.commitment import FailureReason, Reference
from lungnode.store import Store

_log = logging.getLogger(__name__)
_CHUNK: Final = 500  # UIDs in one query
# Clerks of other hosts tell the database of their associations at each of their rounds.
_GRACE: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Request:
    """What one request asks for, and what the index has of it."""

    row: CommitmentRequest
    is_duplicate: bool  # its Transaction UID was used for other instances before
    held: Mapping[str, Sequence[Instance]]  # by SOP Instance UID

    @property
    def references(self) -> tuple[Reference, ...]:
        """The instances asked for, not judged yet."""
        asked = map(Reference.from_record, self.row.instances)
        return tuple(replace(each, failure_reason=None) for each in asked)

    @property
    def lacks(self) -> bool:
        """Whether the index lacks one of them."""
        return any(each.sop_instance_uid not in self.held for each in self.references)

    @property
    def study_ids(self) -> set[int]:
        """Which studies it is about."""
        return {instance.study_id for instances in self.held.values() for instance in instances}


def look_up(session: Session, row: CommitmentRequest) -> Request:
    """Return a request with what the index has of it."""
    held: dict[str, Sequence[Instance]] = {}
    uids = iter({each["sop_instance_uid"] for each in row.instances})
    while chunk := list(islice(uids, _CHUNK)):
        for uid, instances in intake.held_instances(session, chunk).items():
            kept = [instance for instance in instances if instance.deleted_at is None]
            if kept:
                held[uid] = kept
    return Request(row, commitments.is_duplicate(session, row), held)


def may_still_come(
    session: Session, request: Request, now: datetime, *, wait_s: float, spooled: bool
) -> bool:
    """Whether what the index lacks may be acknowledged and not indexed yet.

    `spooled` tells that this host's spool has a folder that is older than the request.
    """
    if request.is_duplicate or not request.lacks:
        return False
    waited = now - request.row.requested_at
    if waited >= timedelta(seconds=wait_s):
        return False
    return waited < _GRACE or spooled or commitments.may_still_be_spooled(session, request.row, now)


def verify(request: Request, archive: Store, *, unknown_sop_classes: bool) -> Iterator[Reference]:
    """Judge each instance of a request, reading its file from start to end.

    Raises:
        UnavailableError: The archive is away.
    """
    for reference in request.references:
        if request.is_duplicate:
            reason: FailureReason | None = FailureReason.DUPLICATE_TRANSACTION_UID
        elif reference.sop_instance_uid in request.held:
            reason = _fault(reference, request.held[reference.sop_instance_uid], archive)
        elif is_storage(reference.sop_class_uid, unknown_sop_classes=unknown_sop_classes):
            reason = FailureReason.NO_SUCH_OBJECT_INSTANCE
        else:
            reason = FailureReason.REFERENCED_SOP_CLASS_NOT_SUPPORTED
        yield replace(reference, failure_reason=reason)


def _fault(reference: Reference, instances: Sequence[Instance], archive: Store) -> FailureReason | None:
    if any(instance.sop_class_uid != reference.sop_class_uid for instance in instances):
        return FailureReason.CLASS_INSTANCE_CONFLICT
    # Of several with one UID it is not known which the peer means: all of them must be whole.
    for instance in instances:
        if archive.read_back(instance.path) != (instance.size, instance.digest):
            _log.error("the archive's file of instance %s is damaged or gone", instance.sop_instance_uid)
            return FailureReason.PROCESSING_FAILURE
    return None
