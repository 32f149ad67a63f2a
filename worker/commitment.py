"""Reports to peers what was found of their commitment requests, on a new association.

Source: PS3.4 J.3.3, N-EVENT-REPORT; J.3.3.1.1: the SCP proposes itself in the SCP role.
"""

import logging
from typing import Any, Final

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role

from db.models import CommitmentRequest, CommitmentState
from db.session import transaction
from db.work import REPORTS, Claim, Retry, claim, fail, finish, new_owner
from lungnode.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, Commitment, Reference, is_success
from lungnode.errors import UnavailableError, UnusableError
from lungnode.scu.association import associated, describe
from worker.addressing import peer_titled
from worker.hold import Node, kept

_LOG = logging.getLogger(__name__)
_TRANSFER_SYNTAXES: Final[list[str | UID]] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def report_row(node: Node, row_id: int) -> None:
    """Report one verified request if that is due and nobody else does it."""
    held = Claim(REPORTS, row_id, new_owner())
    with transaction(node.engine) as session:
        if not claim(session, held, node.clock(), node.settings.delivery.lease_s):
            return
        row = session.get_one(CommitmentRequest, row_id)
    state, reason = CommitmentState.REPORTED, ""
    try:
        with kept(node, held, node.settings.delivery.lease_s):
            _report(node, row)
    except UnusableError as error:
        state, reason = CommitmentState.REFUSED, str(error)
    except UnavailableError as error:
        _put_off(node, held, row, str(error))
        return
    with transaction(node.engine) as session:
        values: dict[str, Any] = {"state": state, "reason": reason, "finished_at": node.clock()}
        finish(session, held, values)
    _tell(row, state, reason)


def _put_off(node: Node, held: Claim, row: CommitmentRequest, reason: str) -> None:
    limits = node.settings.delivery
    retry = Retry(limits.max_attempts, limits.backoff_s, limits.backoff_max_s)
    with transaction(node.engine) as session:
        state = fail(session, held, {"reason": reason}, retry, node.clock())
    _tell(row, state or "taken back", reason)


def _tell(row: CommitmentRequest, state: str, reason: str) -> None:
    level = logging.WARNING if reason else logging.INFO
    _LOG.log(level, "report of transaction %s: %s", row.transaction_uid, f"{state}. {reason}".rstrip(". "))


def _report(node: Node, row: CommitmentRequest) -> None:
    """Send the report.

    Raises:
        UnavailableError: It did not arrive for now.
        UnusableError: The peer will never take it.
    """
    peer = peer_titled(node.settings, row.calling_ae_title, row.address)
    calling = peer.calling_ae_title or row.called_ae_title or node.settings.receiver.ae_title
    result = Commitment(row.transaction_uid, tuple(map(Reference.from_record, row.instances)))
    role = build_role(PUSH_MODEL, scp_role=True)
    context = build_context(PUSH_MODEL, _TRANSFER_SYNTAXES)
    with associated(peer, calling, [context], roles=[role]) as association:
        try:
            answer, _ = association.send_n_event_report(
                result.data_set(), result.event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE
            )
        except (RuntimeError, ValueError) as error:  # the association ended
            raise UnavailableError(f"{describe(peer)} ended the association.") from error
    status = answer.get("Status")
    if status is None or not is_success(status):
        said = "no answer" if status is None else f"status 0x{status:04X}"
        raise UnavailableError(f"{describe(peer)} gave {said} to a commitment report.")
