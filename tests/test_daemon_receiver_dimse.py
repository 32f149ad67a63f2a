import random
from io import BytesIO

import pytest
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.status import code_to_category

from daemon.receiver.dimse import Outcome, Status, decode_request, encode_response
from daemon.receiver.pdu import ProtocolError
from tests.dicom_wire import CT_IMAGE_STORAGE, command, request_command, store_command
from tests.receiving import an_instance


def pynetdicom_store_command() -> bytes:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 7, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT_IMAGE_STORAGE, "1.2.3.45"
    primitive.DataSet = BytesIO(b"\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    fragments = list(message.encode_msg(1, 16_384))
    encoded: bytes = fragments[0].presentation_data_value_list[0][1][1:]
    return encoded


def test_a_command_by_pynetdicom_is_read_as_it_was_meant() -> None:
    request = decode_request(pynetdicom_store_command())

    assert (request.name, request.message_id, request.has_data_set) == ("C_STORE_RQ", 7, True)
    assert request.sop_class_uid == CT_IMAGE_STORAGE.encode() + b"\0"
    assert request.sop_instance_uid == b"1.2.3.45"


@pytest.mark.parametrize("status", Status)
def test_our_response_is_read_by_pynetdicom_as_it_was_meant(status: Status) -> None:
    request = decode_request(pynetdicom_store_command())

    encoded = encode_response(request, Outcome(status, "because" if status else ""))

    answer = decode(BytesIO(encoded), is_implicit_vr=True, is_little_endian=True)
    assert (answer.CommandField, answer.CommandGroupLength) == (0x8001, len(encoded) - 12)
    assert (answer.Status, answer.MessageIDBeingRespondedTo) == (status, 7)
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (CT_IMAGE_STORAGE, "1.2.3.45")
    assert answer.get("ErrorComment", "") == ("because" if status else "")
    assert code_to_category(status) == ("Failure" if status else "Success")


def test_an_echo_is_answered_in_its_own_kind() -> None:
    encoded = encode_response(decode_request(request_command(0x0030)), Outcome(Status.SUCCESS))

    answer = decode(BytesIO(encoded), is_implicit_vr=True, is_little_endian=True)
    assert (answer.CommandField, answer.Status) == (0x8030, 0x0000)


def test_an_error_comment_is_cut_to_what_an_lo_may_hold() -> None:
    encoded = encode_response(
        decode_request(request_command(0x0030)), Outcome(Status.CANNOT_UNDERSTAND, "x" * 99)
    )

    command_set = decode(BytesIO(encoded), is_implicit_vr=True, is_little_endian=True)
    assert len(command_set.ErrorComment) == 64


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        store_command(an_instance())[:-3],
        store_command(an_instance())[:20],
        b"\x08" + store_command(an_instance())[1:],
        command(((0x0100, b"\x01\x00"), (0x0800, b"\x01\x00"))),
        command(((0x0100, b"\x01\x00\x00\x00"), (0x0110, b"\x01\x00"), (0x0800, b"\x01\x00"))),
    ],
    ids=[
        "empty",
        "cut in a value",
        "cut in an element",
        "another group",
        "no Message ID",
        "a Command Field of 4 bytes",
    ],
)
def test_a_damaged_command_set_is_a_protocol_error(damaged: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(damaged)


def test_random_damage_never_raises_anything_but_a_protocol_error() -> None:
    whole = store_command(an_instance())
    chance = random.Random(0)  # noqa: S311 - damage, not secrets

    for _ in range(3_000):
        damaged = bytearray(whole[: chance.randrange(len(whole) + 1)])
        for _ in range(chance.randrange(4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            decode_request(bytes(damaged))
        except ProtocolError:
            continue
