"""The parts of de-identification: pseudonyms, dates, words, linkage, and the second tool's bite."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import PrivateBlock

from lungnode.deidentify.dates import shifted
from lungnode.deidentify.export import Exporter, Original
from lungnode.deidentify.kept import clean, limit_age
from lungnode.deidentify.pseudonyms import SHIFT_DAYS, Pseudonyms, open_pseudonyms
from lungnode.deidentify.verify import verify
from lungnode.errors import UnavailableError, UnusableError
from tests.ct_images import ct_image

SECRET = bytes(range(32))


def test_the_same_secret_gives_the_same_person_and_another_secret_another() -> None:
    one, again, other = Pseudonyms(SECRET), Pseudonyms(SECRET), Pseudonyms(bytes(32))

    assert one.person("4711") == again.person("4711")
    assert one.person("4711") != other.person("4711")
    assert one.person("4711") != one.person("4712")
    assert one.uid("1.2.3") == again.uid("1.2.3") != other.uid("1.2.3")


def test_a_new_uid_is_one_of_a_random_uuid_and_the_standard_s_own_stay() -> None:
    """PS3.5 B.2; RFC 4122 4.4 for the version."""
    from uuid import UUID  # noqa: PLC0415 - the judge

    uid = Pseudonyms(SECRET).uid("1.2.3")

    assert uid.startswith("2.25.")
    assert UUID(int=int(uid.removeprefix("2.25."))).version == 4
    assert Pseudonyms(SECRET).uid("1.2.840.10008.1.4.1.1") == "1.2.840.10008.1.4.1.1"


def test_dates_move_by_one_to_ten_years_into_the_past() -> None:
    shifts = [-Pseudonyms(SECRET).person(str(patient)).shift_days for patient in range(2000)]

    assert min(shifts) >= SHIFT_DAYS[0] == 365
    assert max(shifts) <= SHIFT_DAYS[1] == 3650
    assert len(set(shifts)) > 1000


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("20260305", "20260304"),
        ("20260301", "20260228"),
        ("20240301", "20240229"),
        ("2026.03.05", "20260304"),
        ("20260305101112.123456+0100", "20260304101112.123456+0100"),
        ("202603", ""),
        ("unknown", ""),
        ("20261305", ""),
        ("20260305 of Jane Doe", "20260304"),
    ],
)
def test_a_date_moves_with_its_time_of_day_or_goes(value: str, moved: str) -> None:
    assert shifted(value, -1) == moved


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ThorRoutine  2.0  D40s", "Thor Routine 2.0 D40s"),
        ("CT Thorax of Jane Doe 12.03.1970", "CT Thorax"),
        ("Thorax^1_Routine (Adult)", "Thorax Routine Adult"),
        ("LUNG 1.0 mm Br64", "LUNG 1.0 mm Br64"),
        ("MRN 12-34-56", ""),
        ("Dr. Müller, HRCT 5mm", "HRCT 5 mm"),
    ],
)
def test_of_a_description_known_words_kernels_and_thicknesses_stay(text: str, left: str) -> None:
    assert clean(text) == left
    assert clean(left) == left


@pytest.mark.parametrize(
    ("age", "left"), [("089Y", "089Y"), ("090Y", "090Y"), ("103Y", "090Y"), ("006M", "006M"), ("old", "")]
)
def test_nobody_is_older_than_90(age: str, left: str) -> None:
    assert limit_age(age) == left


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    first = open_pseudonyms(tmp_path).uid("1.2.3")

    folder = tmp_path / "deidentification"
    assert open_pseudonyms(tmp_path).uid("1.2.3") == first
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "secret")] == [0o700, 0o600]
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    open_pseudonyms(tmp_path)
    secret = tmp_path / "deidentification/secret"
    secret.chmod(0o644)

    with pytest.raises(UnusableError, match="can be read by others"):
        open_pseudonyms(tmp_path)

    secret.chmod(0o600)
    secret.write_bytes(b"short")
    with pytest.raises(UnusableError, match="5 bytes instead of 32"):
        open_pseudonyms(tmp_path)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An original and its copy."""
    ds = ct_image(
        PatientName="Doe^Jane",
        PatientID="HX4711",
        StudyDate="20260305",
        StudyDescription="CT Thorax",
        InstitutionName="Mercy Hospital",
        AccessionNumber="ACC99812",
        SpecificCharacterSet="ISO_IR 192",
    )
    ds.save_as(tmp_path / "original.dcm", enforce_file_format=True)
    exporter = Exporter(tmp_path / "data", tmp_path / "out", open_pseudonyms(tmp_path / "data"), check=False)
    with exporter.export(Original("1.2.3", "HX4711", {"1": tmp_path / "original.dcm"})) as export:
        pass
    return tmp_path / "original.dcm", export.files["1"]


def test_who_was_who_is_kept_apart_for_the_owner_alone(pair: tuple[Path, Path], tmp_path: Path) -> None:
    original, copy = (dcmread(path) for path in pair)

    (path,) = (tmp_path / "data/deidentification").glob("*.json")
    linkage = json.loads(path.read_bytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stem == copy.StudyInstanceUID
    assert (linkage["patient"], linkage["pseudonym"]) == ("HX4711", copy.PatientID)
    assert linkage["uids"][original.SOPInstanceUID] == copy.SOPInstanceUID
    assert [p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file()] == [".dcm"]


def test_a_study_whose_audit_fails_does_not_appear(pair: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "second"
    exporter = Exporter(data, out, open_pseudonyms(data))

    with pytest.raises(RuntimeError), exporter.export(Original("1.2.3", "HX4711", {"1": pair[0]})):
        raise RuntimeError

    assert list(out.iterdir()) == []


def test_two_exports_never_share_a_folder(tmp_path: Path) -> None:
    one, other = (Exporter(tmp_path, tmp_path / "out", Pseudonyms(SECRET)) for _ in range(2))

    with one.alone(), pytest.raises(UnavailableError, match="Another export is writing"), other.alone():
        pass

    with other.alone():
        assert (tmp_path / "out").is_dir()


def test_the_second_tool_finds_nothing_in_a_good_copy(pair: tuple[Path, Path]) -> None:
    verify(*pair)


@pytest.mark.parametrize("patient_id", ["1024", "1000", "AXIAL", "Philips"])
def test_an_identifier_that_a_scanner_writes_too_is_no_alarm(tmp_path: Path, patient_id: str) -> None:
    ds = ct_image(PatientID=patient_id, ExposureTime=1000, Manufacturer="Philips", RescaleIntercept="-1024")
    ds.save_as(tmp_path / "original.dcm", enforce_file_format=True)
    exporter = Exporter(tmp_path, tmp_path / "out", Pseudonyms(SECRET))
    (tmp_path / "deidentification").mkdir()

    with exporter.export(Original("1.2.3", patient_id, {"1": tmp_path / "original.dcm"})) as export:
        assert export.left_out == ()


def _private(ds: Dataset) -> None:
    block: PrivateBlock = ds.private_block(0x0029, "VENDOR", create=True)
    block.add_new(1, "LO", "x")


def _nested(ds: Dataset) -> None:
    ds.ReferencedImageSequence = [Dataset()]
    ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.4"


LEAKS: dict[str, Callable[[Dataset], object]] = {
    "PatientName held": lambda ds: setattr(ds, "FilterType", "Jane"),
    "PatientID held": lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "HX4711"]),
    "AccessionNumber held": lambda ds: setattr(ds, "SoftwareVersions", "v1 acc99812 b"),
    "SeriesInstanceUID held": _nested,
    "InstitutionAddress is still there": lambda ds: setattr(ds, "InstitutionAddress", "1 Road"),
    "StudyDate was not moved": lambda ds: setattr(ds, "StudyDate", "20260305"),
    "StudyDescription holds unknown words": lambda ds: setattr(ds, "StudyDescription", "CT of J."),
    "is private": _private,
    "AccessionNumber has its first value": lambda ds: setattr(ds, "AccessionNumber", "ACC99812"),
    "PixelSpacing was changed": lambda ds: setattr(ds, "PixelSpacing", [1, 1]),
    "PixelData was changed": lambda ds: setattr(ds, "PixelData", bytes(64 * 64 * 2 - 2) + b"\1\0"),
    "does not say how": lambda ds: setattr(ds, "PatientIdentityRemoved", "NO"),
}


@pytest.mark.parametrize("problem", LEAKS)
def test_the_second_tool_bites(pair: tuple[Path, Path], problem: str) -> None:
    original, copy = pair
    ds = dcmread(copy)
    LEAKS[problem](ds)
    ds.save_as(copy)

    with pytest.raises(UnusableError, match=problem):
        verify(original, copy)


@pytest.mark.filterwarnings("ignore:Failed to decode byte string")
@pytest.mark.parametrize("encoding", ["utf-8", "shift_jis", "gb18030", "euc_kr"])
def test_a_name_is_found_in_another_encoding(pair: tuple[Path, Path], encoding: str) -> None:
    original, copy = pair
    ds = dcmread(original)
    ds.PatientName = "山本^金山"
    ds.save_as(original)
    place = b"x" * 16
    kept = dcmread(copy)
    kept.FilterType = place.decode()
    kept.save_as(copy)
    copy.write_bytes(copy.read_bytes().replace(place, "山本^金山".encode(encoding).ljust(16)))

    with pytest.raises(UnusableError, match="PatientName held"):
        verify(original, copy)
