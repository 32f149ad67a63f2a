"""Storage commitment at the port: what peers ask and report is durable, and one that waits is told."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode

from daemon.receiver.commitment import MOST_BYTES
from daemon.receiver.dimse import Status
from lungnode.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, Commitment, Reference
from tests.dicom_wire import (
    CT_CONTEXT,
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION_CONTEXT,
    Peer,
    associate_request,
    commitment_command,
    item,
    pdu,
    pdv,
)
from tests.receiving import RunningReceiver, an_instance, running_receiver, wait_until

ASSOCIATE_AC, A_ABORT = 2, 7
PUSH_CONTEXT = (5, PUSH_MODEL, (IMPLICIT_VR_LITTLE_ENDIAN,))
ACTION, EVENT = 0x0130, 0x0100


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    with running_receiver(tmp_path_factory.mktemp("receiver"), processes=1) as running:
        yield running


def action_information(*uids: str, transaction_uid: str = "1.2.3.4.5") -> Dataset:
    """A request as the Standard has it, without our own encoder."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = [_referenced(uid) for uid in uids]
    return ds


def _referenced(uid: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT_IMAGE_STORAGE, uid
    return reference


def encoded(ds: Dataset) -> bytes:
    return encode(ds, True, True) or b""


@dataclass
class Scanner:
    """pynetdicom as a scanner that asks for commitment and is told."""

    port: int
    reports: list[tuple[int, Dataset]] = field(default_factory=list)
    answer: int = 0x0000

    def associate(self, *, as_scp: bool = False, max_pdu: int = 16_382) -> Association:
        """Open an association for storage and commitment, in the default role or as SCP."""
        entity = AE(ae_title="SCANNER")
        entity.add_requested_context(CT_IMAGE_STORAGE, ExplicitVRLittleEndian)
        entity.add_requested_context(PUSH_MODEL, ExplicitVRLittleEndian)
        role = build_role(PUSH_MODEL, scp_role=True)
        association = entity.associate(
            "127.0.0.1",
            self.port,
            ae_title="LUNGNODE",
            max_pdu=max_pdu,
            ext_neg=[role] if as_scp else None,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._on_report)],
        )
        assert association.is_established
        return association

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((event.event_type or 0, event.event_information))
        return self.answer, None


def ask(association: Association, information: Dataset) -> int:
    status, _ = association.send_n_action(information, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    return int(status.Status)


def spooled(receiver: RunningReceiver, kind: str, text: str) -> list[Path]:
    return [path for path in receiver.spool.glob(f"*/*.{kind}") if text.encode() in path.read_bytes()]


def test_a_request_is_kept_bit_for_bit_with_its_sender_and_answered_with_success(
    receiver: RunningReceiver,
) -> None:
    asked = action_information("1.2.3.1", "1.2.3.2", transaction_uid=generate_uid())
    association = Scanner(receiver.port).associate()

    assert ask(association, asked) == 0x0000

    association.release()
    (path,) = spooled(receiver, "action", asked.TransactionUID)
    kept = dcmread(path)
    assert kept == asked
    assert kept.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (kept.file_meta.SourceApplicationEntityTitle, kept.file_meta.ReceivingApplicationEntityTitle) == (
        "SCANNER",
        "LUNGNODE",
    )


def test_a_report_on_a_new_association_is_kept_from_a_peer_that_proposes_itself_as_scp(
    receiver: RunningReceiver,
) -> None:
    report = action_information("1.2.3.1", transaction_uid=generate_uid())
    association = Scanner(receiver.port).associate(as_scp=True)
    (context,) = [c for c in association.accepted_contexts if c.abstract_syntax == PUSH_MODEL]

    status, _ = association.send_n_event_report(report, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)

    association.release()
    assert (context.as_scp, status.Status) == (True, 0x0000)
    (path,) = spooled(receiver, "event", report.TransactionUID)
    assert dcmread(path) == report


def test_a_peer_that_names_no_role_may_report_as_well(receiver: RunningReceiver) -> None:
    report = action_information("1.2.3.1", transaction_uid=generate_uid())
    association = Scanner(receiver.port).associate()

    status, _ = association.send_n_event_report(report, 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)

    association.release()
    assert status.Status == 0x0000
    assert spooled(receiver, "event", report.TransactionUID)


@pytest.mark.parametrize("answer", [0x0000, 0x0110])
def test_a_peer_that_waits_gets_the_clerks_result_on_its_association_and_its_answer_is_noted(
    receiver: RunningReceiver, answer: int
) -> None:
    # So many that the report needs more than one PDU of the peer's maximum length.
    uids = [f"1.2.3.{number}" for number in range(1, 201)]
    transaction_uid = generate_uid()
    scanner = Scanner(receiver.port, answer=answer)
    association = scanner.associate(max_pdu=4_096)
    ask(association, action_information(*uids, transaction_uid=transaction_uid))
    (request,) = spooled(receiver, "action", transaction_uid)
    found = [Reference(CT_IMAGE_STORAGE, uid) for uid in uids[:-1]]
    failed = Reference(CT_IMAGE_STORAGE, uids[-1], failure_reason=0x0112)

    leave_result(request, Commitment(transaction_uid, (*found, failed)))
    wait_until(lambda: request.with_suffix(".reported").exists(), "the answer is not noted")

    ((event_type, information),) = scanner.reports
    assert (event_type, information.TransactionUID) == (2, transaction_uid)
    assert [each.ReferencedSOPInstanceUID for each in information.ReferencedSOPSequence] == uids[:-1]
    (item_,) = information.FailedSOPSequence
    assert (item_.ReferencedSOPInstanceUID, item_.FailureReason) == (uids[-1], 0x0112)
    assert json.loads(request.with_suffix(".reported").read_text()) == {"status": f"0x{answer:04X}"}
    assert association.send_c_store(a_ct_image()).Status == 0x0000
    association.release()


def leave_result(request: Path, result: Commitment) -> None:
    """Leave a result as the clerk does: it is never seen without its content."""
    part = request.with_suffix(".result.part")
    part.write_bytes(result.as_json())
    part.rename(request.with_suffix(".result"))


def a_ct_image() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientID = CT_IMAGE_STORAGE, generate_uid(), "P"
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@pytest.fixture
def peer(receiver: RunningReceiver) -> Iterator[Peer]:
    """A connection with an association: CT Image Storage on context 1, Push Model on 5."""
    with receiver.connect() as connection:
        connection.associate((CT_CONTEXT, VERIFICATION_CONTEXT, PUSH_CONTEXT))
        yield connection


def send(peer: Peer, command: bytes, data_set: bytes | None, context_id: int = 5) -> int:
    parts = [pdu(4, pdv(context_id, 3, command))]
    for start in range(0, len(data_set or b""), 200_000):
        part = (data_set or b"")[start : start + 200_000]
        last = 2 if start + 200_000 >= len(data_set or b"") else 0
        parts.append(pdu(4, pdv(context_id, last, part)))
    peer.send(b"".join(parts))
    return peer.read_status()


GOOD = encoded(action_information("1.2.3"))
EMPTY = encoded(action_information())
NO_TRANSACTION = GOOD[GOOD.index(b"\x08\x00\x99\x11") :]
CUT = GOOD[:-7]
BAD_UID = encoded(action_information("1.2.3")).replace(b"1.2.3\0", b"/../x\0")


def taken(receiver: RunningReceiver) -> list[Path]:
    """What lies in the spool, but for notes of associations that end meanwhile, written or half written."""
    return sorted(path for path in receiver.spool.glob("*/*") if ".json" not in path.suffixes)


@pytest.mark.parametrize(
    ("command", "data_set", "status"),
    [
        (commitment_command(ACTION, type_id=2), GOOD, Status.NO_SUCH_ACTION_TYPE),
        (commitment_command(EVENT, type_id=3), GOOD, Status.NO_SUCH_EVENT_TYPE),
        (commitment_command(ACTION, sop_instance_uid="1.2.3"), GOOD, Status.NO_SUCH_SOP_INSTANCE),
        (commitment_command(ACTION, sop_class_uid=CT_IMAGE_STORAGE), GOOD, Status.NO_SUCH_SOP_CLASS),
        (commitment_command(ACTION, data_set_type=0x0101), None, Status.INVALID_ARGUMENT_VALUE),
        (commitment_command(ACTION), EMPTY, Status.INVALID_ARGUMENT_VALUE),
        (commitment_command(ACTION), NO_TRANSACTION, Status.INVALID_ARGUMENT_VALUE),
        (commitment_command(ACTION), CUT, Status.INVALID_ARGUMENT_VALUE),
        (commitment_command(ACTION), BAD_UID, Status.INVALID_ARGUMENT_VALUE),
        (commitment_command(EVENT), EMPTY, Status.INVALID_ARGUMENT_VALUE),
        (commitment_command(ACTION), bytes(MOST_BYTES + 2), Status.RESOURCE_LIMITATION),
        (commitment_command(0x0110), GOOD, Status.UNRECOGNIZED_OPERATION),
    ],
    ids=[
        "another action",
        "another event",
        "another instance",
        "another class",
        "no data set",
        "no instances",
        "no Transaction UID",
        "cut off",
        "a UID that is a path",
        "an empty report",
        "too long",
        "N-GET",
    ],
)
def test_what_cannot_be_taken_is_refused_by_name_and_the_association_goes_on(
    receiver: RunningReceiver, peer: Peer, command: bytes, data_set: bytes | None, status: Status
) -> None:
    before = taken(receiver)

    assert send(peer, command, data_set) == status

    assert taken(receiver) == before
    assert send(peer, commitment_command(ACTION), GOOD) == Status.SUCCESS


def test_the_response_repeats_the_action_type_and_the_affected_instance(peer: Peer) -> None:
    peer.send(pdu(4, pdv(5, 3, commitment_command(ACTION)) + pdv(5, 2, GOOD)))

    response = peer.read_response()

    assert response[0x0002].rstrip(b"\0") == PUSH_MODEL.encode()
    assert response[0x0100] == struct.pack("<H", 0x8130)
    assert response[0x1000].rstrip(b"\0") == PUSH_MODEL_INSTANCE.encode()
    assert response[0x1008] == struct.pack("<H", 1)


def test_commitment_on_a_storage_context_and_storage_on_a_commitment_context_are_refused(peer: Peer) -> None:
    as_instance = commitment_command(0x0001)

    assert send(peer, commitment_command(ACTION), GOOD, context_id=1) == Status.NO_SUCH_SOP_CLASS
    assert send(peer, as_instance, GOOD) == Status.SOP_CLASS_NOT_SUPPORTED


def test_an_answer_to_a_report_that_was_never_sent_aborts(peer: Peer) -> None:
    peer.send(pdu(4, pdv(5, 3, commitment_command(0x8100))))

    assert peer.read_pdu()[0] == A_ABORT


def test_a_storage_class_gets_no_answer_to_its_role_and_a_damaged_role_item_aborts(
    receiver: RunningReceiver,
) -> None:
    uid = CT_IMAGE_STORAGE.encode()
    role = struct.pack(">H", len(uid)) + uid + b"\x01\x01"
    with receiver.connect() as peer:
        peer.send(associate_request(extra=item(0x54, role)))
        pdu_type, body = peer.read_pdu()
    assert (pdu_type, item(0x54, role) in body) == (ASSOCIATE_AC, False)

    with receiver.connect() as peer:
        peer.send(associate_request(extra=item(0x54, role[:-1])))
        assert peer.read_pdu()[0] == A_ABORT


def test_a_scanner_that_waits_longer_than_a_silent_one_may_is_not_cut_off(tmp_path: Path) -> None:
    waits = {"LUNGNODE_COMMITMENT__WAIT_S": "60"}
    with (
        running_receiver(tmp_path, waits, processes=1, idle_s=0.5) as receiver,
        receiver.connect() as scanner,
        receiver.connect() as idle,
    ):
        # All at once, so that a slow machine does not make it a silent one.
        asked = pdu(4, pdv(5, 3, commitment_command(ACTION)) + pdv(5, 2, GOOD))
        scanner.send(associate_request((PUSH_CONTEXT,)) + asked)
        assert scanner.read_pdu()[0] == ASSOCIATE_AC
        assert scanner.read_status() == Status.SUCCESS
        (request,) = spooled(receiver, "action", "1.2.3.4.5")

        idle.associate()
        assert idle.read_pdu()[0] == A_ABORT  # it asked for nothing and was silent for less long
        leave_result(request, Commitment("1.2.3.4.5", (Reference(CT_IMAGE_STORAGE, "1.2.3"),)))

        assert scanner.read_response()[0x0100] == struct.pack("<H", EVENT)


def test_the_operator_may_accept_no_commitment(tmp_path: Path) -> None:
    refuses = {"LUNGNODE_COMMITMENT__ACCEPT": "false"}
    with running_receiver(tmp_path, refuses, processes=1) as receiver, receiver.connect() as peer:
        accepted = peer.associate((CT_CONTEXT, PUSH_CONTEXT))

    assert (accepted[1][0], accepted[5][0]) == (0, 3)


def test_a_full_disk_takes_no_request(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1, disk_reject_bytes=1 << 60) as receiver:
        association = Scanner(receiver.port).associate()

        assert ask(association, action_information("1.2.3")) == Status.RESOURCE_LIMITATION

        association.release()
        assert not list(receiver.spool.glob("*"))


def test_a_compressed_transfer_syntax_is_not_taken_for_commitment(receiver: RunningReceiver) -> None:
    deflated = "1.2.840.10008.1.2.1.99"
    with receiver.connect() as peer:
        accepted = peer.associate(
            (
                (1, PUSH_MODEL, (deflated,)),
                (3, PUSH_MODEL, (deflated, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)),
            )
        )

    assert (accepted[1][0], accepted[3]) == (4, (0, EXPLICIT_VR_LITTLE_ENDIAN))


def test_an_instance_and_a_request_share_a_folder_and_its_numbers(
    receiver: RunningReceiver, peer: Peer
) -> None:
    peer.store(an_instance(77))
    send(peer, commitment_command(ACTION), encoded(action_information("1.2.77")))

    (request,) = spooled(receiver, "action", "1.2.77")
    assert sorted(path.name for path in request.parent.glob("0*")) == ["00000001.dcm", "00000002.action"]
