import pytest
from highdicom._standard_utils import get_module_attribute_map
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tests.findings import NAMES, ct_study
from worker.outputs.plane import plane_of
from worker.outputs.source import (
    CLINICAL_TRIAL,
    GENERAL_STUDY,
    PATIENT,
    PATIENT_STUDY,
    REQUIRED,
    character_set,
    patient_and_study,
)

MODULES = {
    "patient": PATIENT,
    "general-study": GENERAL_STUDY,
    "patient-study": PATIENT_STUDY,
    "clinical-trial-subject": CLINICAL_TRIAL,
    "clinical-trial-study": CLINICAL_TRIAL,
}


def source(**attributes: object) -> Dataset:
    return next(iter(ct_study(1, **attributes).sources.values()))


@pytest.mark.parametrize("module", MODULES)
def test_our_tables_hold_every_attribute_of_the_standard_s(module: str) -> None:
    rows = [row for row in get_module_attribute_map()[module] if not row["path"]]

    assert {row["keyword"] for row in rows} <= set(MODULES[module])
    if module in ("patient", "general-study"):
        assert {row["keyword"] for row in rows if row["type"] == "2"} <= set(REQUIRED)


@pytest.mark.parametrize("script", NAMES)
def test_a_name_is_decoded_with_all_its_component_groups(script: str) -> None:
    character_sets, name = NAMES[script]

    copied = patient_and_study(source(SpecificCharacterSet=character_sets, PatientName=name))

    assert copied.PatientName == name
    assert "SpecificCharacterSet" not in copied


# Source: PS3.5 H.3.2, I.2 and plain words of the single-byte scripts.
FURTHER_NAMES = {
    "kana": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "arabic": ("ISO_IR 127", "قباني^لنزار"),
    "hebrew": ("ISO_IR 138", "שרון^דבורה"),
    "thai": ("ISO_IR 166", "สมชาย"),
    "latin-2": ("ISO_IR 101", "Wałęsa^Łukasz"),
    "turkish": ("ISO_IR 148", "Çavuşoğlu^Şükrü"),
}


@pytest.mark.parametrize("script", FURTHER_NAMES)
def test_names_of_further_scripts_survive_in_their_own_character_set(script: str) -> None:
    character_sets, name = FURTHER_NAMES[script]
    original = source(SpecificCharacterSet=character_sets, PatientName=name)

    copied = patient_and_study(original)

    assert copied.PatientName == name
    assert character_set(original, copied) == character_sets


def test_a_name_that_pydicom_cannot_encode_again_is_sent_in_utf_8() -> None:
    # Source: PS3.5 K.3. pydicom reads the escape sequences of ISO 2022 IR 58 but does not write them.
    name, tag = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab= ", Tag("PatientName")
    original = Dataset()
    original.SpecificCharacterSet = ["", "ISO 2022 IR 58"]
    original[tag] = RawDataElement(tag, "PN", len(name), name, 0, is_implicit_VR=False, is_little_endian=True)

    copied = patient_and_study(original)

    assert str(copied.PatientName).rstrip("=") == "Zhang^XiaoDong=张^小东"
    assert character_set(original, copied) == "ISO_IR 192"


def test_an_item_with_its_own_character_set_is_decoded_with_it() -> None:
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 144"
    item.PatientID, item.IssuerOfPatientID = "1", NAMES["cyrillic"][1]

    copied = patient_and_study(source(SpecificCharacterSet="ISO_IR 100", OtherPatientIDsSequence=[item]))

    assert copied.OtherPatientIDsSequence[0].IssuerOfPatientID == NAMES["cyrillic"][1]
    assert "SpecificCharacterSet" not in copied.OtherPatientIDsSequence[0]


def test_absent_stays_absent_and_empty_stays_empty() -> None:
    copied = patient_and_study(source(PatientComments="", PatientSex=None))

    assert copied.PatientComments == ""
    assert copied["PatientSex"].is_empty
    assert "PatientWeight" not in copied


def test_the_source_is_left_as_it_was() -> None:
    original = source(SpecificCharacterSet="ISO_IR 100", PatientName="Buc^Jérôme")
    before = str(original)

    patient_and_study(original).PatientName = "Other"

    assert str(original) == before


def test_a_value_that_cannot_be_read_is_left_out() -> None:
    damaged = source()
    tag = Tag("PatientComments")  # said to be a double, of three bytes
    damaged[tag] = RawDataElement(tag, "FD", 3, b"abc", 0, is_implicit_VR=False, is_little_endian=True)

    copied = patient_and_study(damaged)

    assert "PatientComments" not in copied
    assert copied.PatientID == "4711"


def test_text_that_the_source_s_character_set_lacks_is_sent_in_utf_8() -> None:
    made = Dataset()
    made.StudyDescription = "山"

    assert character_set(source(SpecificCharacterSet="ISO_IR 100"), made) == "ISO_IR 192"
    assert character_set(source(SpecificCharacterSet=None), made) == "ISO_IR 192"


def test_a_character_set_that_nobody_knows_is_replaced() -> None:
    odd = source()
    odd.SpecificCharacterSet = "ISO_IR 999"

    assert character_set(odd, Dataset()) == "ISO_IR 192"


def test_the_default_repertoire_has_no_name() -> None:
    assert character_set(source(SpecificCharacterSet=None), Dataset()) is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"PixelSpacing": None},
        {"PixelSpacing": ""},
        {"ImagePositionPatient": [1, 2]},
        {"ImageOrientationPatient": None},
        {"Rows": None},
    ],
)
def test_a_plane_that_is_not_wholly_described_is_none(attributes: dict[str, object]) -> None:
    assert plane_of(source(**attributes), None) is None


def test_a_plane_may_lack_thickness_and_frame_of_reference() -> None:
    plane = plane_of(source(SliceThickness=None, FrameOfReferenceUID=None), None)

    assert plane is not None
    assert (plane.thickness_mm, plane.frame_of_reference_uid) == (None, "")
