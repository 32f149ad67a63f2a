"""The upper layer and DIMSE as a peer on bare sockets meets them: one receiver, what it answers."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.receiver.dimse import Status
from tests.dicom_wire import (
    ABORT,
    CT_CONTEXT,
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
    VERIFICATION_CONTEXT,
    Instance,
    Peer,
    associate_request,
    item,
    pdu,
    pdv,
    request_command,
    store_command,
    store_message,
)
from tests.receiving import (
    RunningReceiver,
    an_instance,
    digest,
    digest_of_data_set,
    running_receiver,
    wait_until,
)

ASSOCIATE_AC, P_DATA, RELEASE_RP, A_ABORT = 2, 4, 6, 7
PROVIDER = 2
UNRECOGNIZED_PDU, UNEXPECTED_PDU, UNEXPECTED_PARAMETER, INVALID_VALUE = 1, 2, 5, 6
MAX_PDU_BYTES = 65_536


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    folder = tmp_path_factory.mktemp("receiver")
    with running_receiver(folder, processes=1, max_pdu_bytes=MAX_PDU_BYTES) as running:
        yield running


@pytest.fixture
def peer(receiver: RunningReceiver) -> Iterator[Peer]:
    """A connection without an association."""
    with receiver.connect() as connection:
        yield connection


@pytest.fixture
def associated(peer: Peer) -> Peer:
    """A connection with an association: CT Image Storage on context 1, Verification on 3."""
    peer.associate()
    return peer


def abort_of(peer: Peer) -> tuple[int, int]:
    """Source and reason of the A-ABORT that comes next."""
    pdu_type, body = peer.read_pdu()
    assert pdu_type == A_ABORT
    return body[2], body[3]


def kept(receiver: RunningReceiver, data_set: bytes) -> list[Path]:
    return [path for path in receiver.files() if digest_of_data_set(path) == digest(data_set)]


def test_an_echo_is_answered_and_leaves_no_folder(receiver: RunningReceiver, associated: Peer) -> None:
    before = list(receiver.spool.iterdir())

    assert associated.echo() == Status.SUCCESS
    assert associated.release() == RELEASE_RP
    assert list(receiver.spool.iterdir()) == before


def test_an_acknowledged_instance_is_on_disk_as_it_came(receiver: RunningReceiver, associated: Peer) -> None:
    instance = an_instance(101)

    assert associated.store(instance) == Status.SUCCESS
    assert len(kept(receiver, instance.data_set)) == 1


@pytest.mark.parametrize("maximum_length", [0, 4_096, 100, 8])
def test_a_data_set_may_come_in_fragments_of_any_size(
    receiver: RunningReceiver, associated: Peer, maximum_length: int
) -> None:
    instance = an_instance(200 + maximum_length)

    assert associated.store(instance, maximum_length=maximum_length) == Status.SUCCESS
    assert kept(receiver, instance.data_set)


def test_a_data_set_larger_than_every_buffer_is_kept_whole(
    receiver: RunningReceiver, associated: Peer
) -> None:
    instance = an_instance(300, size=5_000_000)

    assert associated.store(instance, maximum_length=MAX_PDU_BYTES) == Status.SUCCESS
    assert kept(receiver, instance.data_set)


def test_command_and_data_set_may_share_one_pdu(receiver: RunningReceiver, associated: Peer) -> None:
    instance = an_instance(301)
    half = len(instance.data_set) // 2

    associated.send(
        pdu(
            4,
            pdv(1, 3, store_command(instance))
            + pdv(1, 0, instance.data_set[:half])
            + pdv(1, 2, instance.data_set[half:]),
        )
    )

    assert associated.read_status() == Status.SUCCESS
    assert kept(receiver, instance.data_set)


def test_a_command_may_be_split_over_pdus_and_bytes_may_come_one_by_one(
    receiver: RunningReceiver, associated: Peer
) -> None:
    instance, command = an_instance(302, size=40), store_command(an_instance(302))
    message = b"".join(
        (
            pdu(4, pdv(1, 1, command[:7])),
            pdu(4, pdv(1, 1, command[7:50]) + pdv(1, 1, b"")),
            pdu(4, pdv(1, 3, command[50:])),
            pdu(4, pdv(1, 0, b"")),
            pdu(4, pdv(1, 2, instance.data_set)),
        )
    )

    for byte in message:
        associated.send(bytes([byte]))

    assert associated.read_status() == Status.SUCCESS
    assert kept(receiver, instance.data_set)


def test_a_last_fragment_may_be_empty(receiver: RunningReceiver, associated: Peer) -> None:
    instance = an_instance(303)

    associated.send(pdu(4, pdv(1, 3, store_command(instance)) + pdv(1, 0, instance.data_set)))
    associated.send(pdu(4, pdv(1, 2, b"")))

    assert associated.read_status() == Status.SUCCESS
    assert kept(receiver, instance.data_set)


def test_a_peer_that_reads_short_pdus_gets_its_answer_in_short_pdus(peer: Peer) -> None:
    peer.send(associate_request(maximum_length=64))
    peer.read_pdu()

    peer.send(store_message(an_instance(304)))

    command, control = b"", 0
    while not control & 2:
        pdu_type, body = peer.read_pdu()
        assert (pdu_type, len(body) <= 64) == (P_DATA, True)
        control, command = body[5], command + body[6:]
    assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" in command  # Status (0000,0900) US 0000


@pytest.mark.parametrize("uid", ["", "1.2.3/../../x", "not a uid \xff", "1" * 200])
def test_an_instance_with_an_odd_uid_is_kept(receiver: RunningReceiver, associated: Peer, uid: str) -> None:
    original = an_instance(305 + len(uid))
    instance = Instance(original.sop_class_uid, uid, original.transfer_syntax_uid, original.data_set)

    assert associated.store(instance) == Status.SUCCESS
    assert kept(receiver, instance.data_set)


def test_a_store_without_data_set_is_not_understood(associated: Peer) -> None:
    associated.send(pdu(4, pdv(1, 3, store_command(an_instance(), data_set_type=0x0101))))

    assert associated.read_status() == Status.CANNOT_UNDERSTAND
    assert associated.store(an_instance(310)) == Status.SUCCESS


def test_a_store_of_another_class_than_the_context_s_is_refused(
    receiver: RunningReceiver, associated: Peer
) -> None:
    instance = an_instance(311)
    other = Instance("1.2.840.10008.5.1.4.1.1.4", "1.2.3", EXPLICIT_VR_LITTLE_ENDIAN, instance.data_set)

    assert associated.store(other) == Status.SOP_CLASS_NOT_SUPPORTED
    assert not kept(receiver, instance.data_set)
    receiver.wait_for_log("refused: SOP_CLASS_NOT_SUPPORTED (0x0122)")


@pytest.mark.parametrize("command_field", [0x0010, 0x0020, 0x0021, 0x0110, 0x0140])
def test_another_operation_is_not_recognized_and_the_association_goes_on(
    associated: Peer, command_field: int
) -> None:
    associated.send(
        pdu(4, pdv(1, 3, request_command(command_field, data_set_type=1)) + pdv(1, 2, b"\x08\x00"))
    )

    response = associated.read_response()
    assert response[0x0900] == struct.pack("<H", Status.UNRECOGNIZED_OPERATION)
    assert response[0x0100] == struct.pack("<H", command_field | 0x8000)
    assert associated.echo() == Status.SUCCESS


def test_a_cancel_is_passed_over(associated: Peer) -> None:
    associated.send(pdu(4, pdv(1, 3, request_command(0x0FFF))))

    assert associated.echo() == Status.SUCCESS


@pytest.mark.parametrize(
    ("message", "source_and_reason"),
    [
        (pdu(4, pdv(5, 3, request_command(0x0030))), (PROVIDER, INVALID_VALUE)),
        (pdu(4, struct.pack(">IBB", 1, 1, 3)), (PROVIDER, INVALID_VALUE)),
        (pdu(4, struct.pack(">IBB", 500, 1, 3) + bytes(10)), (PROVIDER, INVALID_VALUE)),
        (pdu(4, struct.pack(">IBB", 0xFFFFFFFF, 1, 2)), (PROVIDER, INVALID_VALUE)),
        (pdu(4, bytes(3)), (PROVIDER, INVALID_VALUE)),
        (pdu(4, pdv(1, 3, b"\x00\x00\x00")), (PROVIDER, INVALID_VALUE)),
        (pdu(4, pdv(1, 2, b"\x08\x00")), (PROVIDER, UNEXPECTED_PARAMETER)),
        (pdu(4, pdv(1, 3, request_command(0x8001))), (PROVIDER, INVALID_VALUE)),
        (pdu(4, pdv(1, 3, store_command(an_instance())) * 2), (PROVIDER, UNEXPECTED_PARAMETER)),
        (
            pdu(4, pdv(1, 3, store_command(an_instance())) + pdv(3, 2, b"\x08\x00")),
            (PROVIDER, INVALID_VALUE),
        ),
        (struct.pack(">BxI", 4, 0xFFFFFFFF), (PROVIDER, INVALID_VALUE)),
        (struct.pack(">BxI", 4, 4 * MAX_PDU_BYTES + 1), (PROVIDER, INVALID_VALUE)),
        (b"".join(pdu(4, pdv(1, 1, bytes(20_000))) for _ in range(4)), (PROVIDER, INVALID_VALUE)),
        (associate_request(), (PROVIDER, UNEXPECTED_PDU)),
        (pdu(6, bytes(4)), (PROVIDER, UNEXPECTED_PDU)),
        (pdu(8, bytes(4)), (PROVIDER, UNRECOGNIZED_PDU)),
        (b"\xff" * 64, (PROVIDER, UNRECOGNIZED_PDU)),
    ],
    ids=[
        "a context that was not accepted",
        "a PDV shorter than its header",
        "a PDV longer than its PDU",
        "a PDV of 4 GiB",
        "a PDU shorter than a PDV's header",
        "a command set that is none",
        "a data set without a command",
        "a response that nobody asked for",
        "a command within a data set",
        "a data set on another context",
        "a PDU of 4 GiB",
        "a PDU far longer than announced",
        "a command set without end",
        "a second request",
        "a release response",
        "an unknown PDU type",
        "noise",
    ],
)
def test_a_broken_protocol_is_aborted_with_its_reason(
    associated: Peer, message: bytes, source_and_reason: tuple[int, int]
) -> None:
    associated.send(message)

    assert abort_of(associated) == source_and_reason


def test_a_pdu_somewhat_longer_than_announced_is_tolerated(
    receiver: RunningReceiver, associated: Peer
) -> None:
    instance = an_instance(320, size=2 * MAX_PDU_BYTES)

    assert associated.store(instance) == Status.SUCCESS
    assert kept(receiver, instance.data_set)


@pytest.mark.parametrize(
    ("first_words", "source_and_reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: lungnode\r\n\r\n", (PROVIDER, UNRECOGNIZED_PDU)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), (PROVIDER, UNRECOGNIZED_PDU)),
        (struct.pack(">BxI", 1, 0xFFFFFFFF), (PROVIDER, INVALID_VALUE)),
        (pdu(1, bytes(20)), (PROVIDER, INVALID_VALUE)),
        (pdu(4, pdv(1, 3, request_command(0x0030))), (PROVIDER, UNEXPECTED_PDU)),
        (pdu(5, bytes(4)), (PROVIDER, UNEXPECTED_PDU)),
    ],
    ids=["HTTP", "TLS", "a request of 4 GiB", "a request too short", "data", "release"],
)
def test_garbage_on_the_port_is_aborted_and_named_in_one_line(
    receiver: RunningReceiver, peer: Peer, first_words: bytes, source_and_reason: tuple[int, int]
) -> None:
    peer.send(first_words)

    assert abort_of(peer) == source_and_reason
    receiver.wait_for_log("127.0.0.1 sent no usable A-ASSOCIATE-RQ")
    assert "Traceback" not in receiver.log_text()


def test_an_abort_in_the_middle_of_a_data_set_leaves_no_file(receiver: RunningReceiver, peer: Peer) -> None:
    instance = an_instance(330)
    peer.send(associate_request(calling="ABORTER"))
    peer.read_pdu()
    peer.store(instance)

    peer.send(pdu(4, pdv(1, 3, store_command(instance)) + pdv(1, 0, b"half")) + ABORT)

    receiver.wait_for_log("association of ABORTER (127.0.0.1) to LUNGNODE aborted: 1 instances")
    (folder,) = {path.parent for path in kept(receiver, instance.data_set)}
    assert sorted(path.name for path in folder.iterdir()) == [
        "00000001.dcm",
        "association.json",
        "ended.json",
    ]


def test_a_release_in_the_middle_of_a_data_set_is_granted_and_leaves_no_file(
    receiver: RunningReceiver, associated: Peer
) -> None:
    instance = an_instance(331)
    associated.send(pdu(4, pdv(1, 3, store_command(instance)) + pdv(1, 0, instance.data_set)))

    assert associated.release() == RELEASE_RP
    assert not kept(receiver, instance.data_set)
    assert not receiver.half_files()


def test_half_an_association_is_recorded_as_lost(receiver: RunningReceiver, peer: Peer) -> None:
    instance = an_instance(332)
    peer.send(associate_request(calling="GONE"))
    peer.read_pdu()
    peer.store(instance)
    peer.send(store_message(instance)[:-1_000])

    peer.socket.close()

    receiver.wait_for_log("association of GONE (127.0.0.1) to LUNGNODE lost: 1 instances")
    (path,) = kept(receiver, instance.data_set)
    assert '"outcome": "lost"' in (path.parent / "ended.json").read_text()


def test_roles_windows_and_identities_are_passed_over(peer: Peer) -> None:
    role = item(0x54, struct.pack(">H", 25) + CT_IMAGE_STORAGE.encode() + b"\x01\x00")
    window = item(0x53, struct.pack(">HH", 5, 5))
    identity = item(0x58, b"\x01\x01" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 0))

    peer.send(associate_request(extra=role + window + identity))

    assert peer.read_pdu()[0] == ASSOCIATE_AC
    assert peer.store(an_instance(340)) == Status.SUCCESS


def test_128_contexts_are_answered_each(peer: Peer) -> None:
    contexts = [(2 * number + 1, CT_IMAGE_STORAGE, (EXPLICIT_VR_LITTLE_ENDIAN,)) for number in range(128)]

    results = peer.associate(contexts)

    assert results == {context_id: (0, EXPLICIT_VR_LITTLE_ENDIAN) for context_id, *_ in contexts}
    assert peer.store(an_instance(341), context_id=255) == Status.SUCCESS


def test_a_context_that_was_refused_cannot_be_used(receiver: RunningReceiver, peer: Peer) -> None:
    results = peer.associate((CT_CONTEXT, (3, "1.2.840.10008.5.1.4.1.2.2.1", (EXPLICIT_VR_LITTLE_ENDIAN,))))

    assert [results[context_id][0] for context_id in (1, 3)] == [0, 3]
    receiver.wait_for_log(
        "1 of 2 presentation contexts refused, the first: "
        "1.2.840.10008.5.1.4.1.2.2.1 with 1.2.840.10008.1.2.1, "
        "ABSTRACT_SYNTAX_NOT_SUPPORTED"
    )
    peer.send(pdu(4, pdv(3, 3, request_command(0x0020))))
    assert abort_of(peer) == (PROVIDER, INVALID_VALUE)


def test_an_echo_outside_verification_and_a_store_on_verification_are_refused(associated: Peer) -> None:
    assert associated.echo(context_id=1) == Status.SOP_CLASS_NOT_SUPPORTED
    misplaced = Instance(VERIFICATION, "1.2.3", EXPLICIT_VR_LITTLE_ENDIAN, b"\x08\x00")
    assert associated.store(misplaced, context_id=VERIFICATION_CONTEXT[0]) == Status.SOP_CLASS_NOT_SUPPORTED


def test_bare_connections_leave_no_thread_no_descriptor_and_no_folder(receiver: RunningReceiver) -> None:
    (child,) = receiver.children()
    process = Path(f"/proc/{child}")
    wait_until(lambda: len(list((process / "task").iterdir())) == 1, "earlier threads do not end")
    descriptors, folders = len(list((process / "fd").iterdir())), len(list(receiver.spool.iterdir()))

    for _ in range(500):
        receiver.connect().socket.close()

    wait_until(lambda: len(list((process / "task").iterdir())) == 1, "threads are left")
    wait_until(lambda: len(list((process / "fd").iterdir())) <= descriptors, "descriptors are left")
    assert len(list(receiver.spool.iterdir())) == folders
    with receiver.connect() as peer:
        peer.associate()
        assert peer.echo() == Status.SUCCESS
