import pytest
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts

from daemon.receiver.associate import ContextResult, ProposedContext
from daemon.receiver.contexts import TRANSFER_SYNTAX_RANKS, choose_transfer_syntax, negotiate
from tests.dicom_wire import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
RETIRED = ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"


def result_of(abstract_syntax: str, *syntaxes: str, unknown: bool = False) -> ContextResult:
    proposed = ProposedContext(1, abstract_syntax, syntaxes or (EXPLICIT_VR_LITTLE_ENDIAN,))
    (answer,) = negotiate([proposed], unknown_sop_classes=unknown)
    return answer.result


def test_every_transfer_syntax_of_the_table_is_one_of_the_registry_that_is_not_retired() -> None:
    for uid in TRANSFER_SYNTAX_RANKS:
        assert UID(uid).is_transfer_syntax
        assert uid == "1.2.840.10008.1.2.2" or not UID(uid).is_retired


def test_rank_0_and_the_uncompressed_are_never_lossy_by_name() -> None:
    for uid, rank in TRANSFER_SYNTAX_RANKS.items():
        lossless = "lossless" in UID(uid).name.lower() and "near-lossless" not in UID(uid).name.lower()
        assert (rank == 0) == (lossless or UID(uid).is_deflated)


@pytest.mark.parametrize(
    "uid", sorted(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
)
def test_every_storage_class_is_accepted(uid: str) -> None:
    assert result_of(uid) == ContextResult.ACCEPTANCE


@pytest.mark.parametrize("uid", TRANSFER_SYNTAX_RANKS)
def test_every_transfer_syntax_is_accepted_alone(uid: str) -> None:
    assert result_of(CT_IMAGE_STORAGE, uid) == ContextResult.ACCEPTANCE


@pytest.mark.parametrize("uid", [*RETIRED, "1.2.840.10008.1.2.4.100", "1.2.3"])
def test_another_transfer_syntax_is_refused_with_result_4(uid: str) -> None:
    assert result_of(CT_IMAGE_STORAGE, uid) == ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED


@pytest.mark.parametrize("uid", [STUDY_ROOT_FIND, MODALITY_WORKLIST])
@pytest.mark.parametrize("unknown", [False, True])
def test_a_class_of_another_service_is_refused_with_result_3(uid: str, *, unknown: bool) -> None:
    assert result_of(uid, unknown=unknown) == ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED


@pytest.mark.parametrize("unknown", [False, True])
def test_a_private_class_is_accepted_only_when_configured(*, unknown: bool) -> None:
    accepted = result_of("1.2.840.99999.1.2", unknown=unknown) == ContextResult.ACCEPTANCE

    assert accepted == unknown


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ((IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN), EXPLICIT_VR_LITTLE_ENDIAN),
        ((EXPLICIT_VR_LITTLE_ENDIAN, JPEG_LOSSLESS), JPEG_LOSSLESS),
        ((JPEG_2000_LOSSLESS, JPEG_LOSSLESS), JPEG_2000_LOSSLESS),
        ((JPEG_BASELINE, IMPLICIT_VR_LITTLE_ENDIAN), IMPLICIT_VR_LITTLE_ENDIAN),
        ((RETIRED[0], JPEG_BASELINE), JPEG_BASELINE),
        (RETIRED, None),
    ],
    ids=[
        "explicit before implicit",
        "compressed stays compressed",
        "the peer's first of equals",
        "nothing through a lossy codec",
        "lossy when nothing else is proposed",
        "none",
    ],
)
def test_of_several_transfer_syntaxes_the_stated_rule_takes_one(
    proposed: tuple[str, ...], chosen: str | None
) -> None:
    assert choose_transfer_syntax(proposed) == chosen


def test_the_answers_keep_the_ids_of_the_proposals() -> None:
    proposed = [
        ProposedContext(context_id, uid, (EXPLICIT_VR_LITTLE_ENDIAN,))
        for context_id, uid in ((5, CT_IMAGE_STORAGE), (1, STUDY_ROOT_FIND), (255, CT_IMAGE_STORAGE))
    ]

    answers = negotiate(proposed, unknown_sop_classes=False)

    assert [(answer.context_id, answer.result) for answer in answers] == [(5, 0), (1, 3), (255, 0)]
