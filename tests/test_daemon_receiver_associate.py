import random

import pytest
from pynetdicom import build_context
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)

from daemon.receiver.associate import (
    AssociateRequest,
    ContextResult,
    NegotiatedContext,
    decode_request,
    encode_accept,
)
from daemon.receiver.pdu import (
    AbortReason,
    AbortSource,
    ProtocolError,
    Rejection,
    encode_abort,
    encode_reject,
)
from tests.dicom_wire import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, associate_request, item

HEADER = 6


def pynetdicom_request() -> bytes:
    """An A-ASSOCIATE-RQ with everything that a peer may negotiate beside contexts, by pynetdicom."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "SCANNER", "LUNGNODE"
    contexts = [
        build_context("1.2.840.10008.1.1"),
        build_context(CT_IMAGE_STORAGE, ["1.2.840.10008.1.2.4.70"]),
    ]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, role = MaximumLengthNotification(), SCP_SCU_RoleSelectionNegotiation()
    length.maximum_length_received = 16_384
    implementation, name = ImplementationClassUIDNotification(), ImplementationVersionNameNotification()
    implementation.implementation_class_uid, name.implementation_version_name = "1.2.3", "SCANNER_1"
    role.sop_class_uid, role.scu_role, role.scp_role = CT_IMAGE_STORAGE, True, False
    window, identity = AsynchronousOperationsWindowNegotiation(), UserIdentityNegotiation()
    window.maximum_number_operations_invoked = 5
    identity.user_identity_type, identity.primary_field = 1, b"somebody"
    primitive.user_information = [length, implementation, name, role, window, identity]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    encoded: bytes = pdu.encode()
    return encoded


def a_request() -> AssociateRequest:
    return decode_request(associate_request()[HEADER:])


def test_a_request_by_pynetdicom_is_read_as_it_was_meant() -> None:
    request = decode_request(pynetdicom_request()[HEADER:])

    assert request.version_supported
    assert (request.calling_ae_title, request.called_ae_title) == ("SCANNER", "LUNGNODE")
    assert request.application_context_name == "1.2.840.10008.3.1.1.1"
    assert [(c.context_id, c.abstract_syntax) for c in request.contexts] == [
        (1, "1.2.840.10008.1.1"),
        (3, CT_IMAGE_STORAGE),
    ]
    assert request.contexts[1].transfer_syntaxes == ("1.2.840.10008.1.2.4.70",)
    assert (request.maximum_length, request.implementation) == (16_384, "SCANNER_1")


def test_our_acceptance_is_read_by_pynetdicom_as_it_was_meant() -> None:
    contexts = (
        NegotiatedContext(1, ContextResult.ACCEPTANCE, CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN),
        NegotiatedContext(3, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, "1.2.3", EXPLICIT_VR_LITTLE_ENDIAN),
    )

    encoded = encode_accept(a_request(), contexts, 262_144, ("1.2.3.4", "LUNGNODE_0"))

    pdu = A_ASSOCIATE_AC()
    pdu.decode(encoded)
    assert pdu.encode() == encoded
    answer = pdu.to_primitive()
    results = answer.presentation_context_definition_results_list
    assert [(result.context_id, result.result) for result in results] == [(1, 0), (3, 3)]
    assert results[0].transfer_syntax == [EXPLICIT_VR_LITTLE_ENDIAN]
    assert answer.maximum_length_received == 262_144
    assert answer.implementation_class_uid == "1.2.3.4"
    assert (pdu.calling_ae_title, pdu.called_ae_title) == ("TEST", "LUNGNODE")


@pytest.mark.parametrize(
    ("rejection", "words"),
    [
        (Rejection.NO_REASON_GIVEN, "No reason given"),
        (
            Rejection.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED,
            "Application context name not supported",
        ),
        (Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED, "Calling AE title not recognised"),
        (Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED, "Called AE title not recognised"),
        (Rejection.PROTOCOL_VERSION_NOT_SUPPORTED, "Protocol version not supported"),
        (Rejection.TEMPORARY_CONGESTION, "Temporary congestion"),
        (Rejection.LOCAL_LIMIT_EXCEEDED, "Local limit exceeded"),
    ],
)
def test_a_rejection_says_in_pynetdicom_s_words_what_it_is_called_here(
    rejection: Rejection, words: str
) -> None:
    pdu = A_ASSOCIATE_RJ()

    pdu.decode(encode_reject(rejection))

    assert words.lower() in pdu.reason_str.lower()
    transient = rejection in (Rejection.TEMPORARY_CONGESTION, Rejection.LOCAL_LIMIT_EXCEEDED)
    assert pdu.result_str == ("Rejected (Transient)" if transient else "Rejected (Permanent)")


def test_an_abort_is_read_by_pynetdicom_as_it_was_meant() -> None:
    pdu = A_ABORT_RQ()

    pdu.decode(encode_abort(AbortSource.SERVICE_PROVIDER, AbortReason.UNRECOGNIZED_PDU))

    assert (pdu.source, pdu.reason_diagnostic) == (2, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        associate_request()[HEADER:][:67],
        associate_request()[HEADER:] + b"\x20",
        associate_request()[HEADER:] + b"\x20\x00\xff\xff",
        associate_request(((2, CT_IMAGE_STORAGE, (EXPLICIT_VR_LITTLE_ENDIAN,)),))[HEADER:],
        associate_request(((1, CT_IMAGE_STORAGE, (EXPLICIT_VR_LITTLE_ENDIAN,)),) * 2)[HEADER:],
        associate_request(((1, CT_IMAGE_STORAGE, ()),))[HEADER:],
        associate_request()[HEADER:] + item(0x50, item(0x51, b"\x00")),
    ],
    ids=[
        "empty",
        "shorter than its fixed fields",
        "ends in an item's header",
        "an item longer than the request",
        "an even context ID",
        "one context ID twice",
        "a context without transfer syntax",
        "a maximum length of one byte",
    ],
)
def test_a_damaged_request_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(body)


def test_random_damage_never_raises_anything_but_a_protocol_error() -> None:
    whole = pynetdicom_request()[HEADER:]
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


def test_names_that_could_forge_a_log_line_are_made_harmless() -> None:
    request = decode_request(associate_request(calling="A\nERROR x\x1b[2J")[HEADER:])

    assert request.calling_ae_title == "A?ERROR x?[2J"
