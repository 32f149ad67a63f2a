"""De-identified copies of marked images, searched by bytes and judged by other tools."""

import shutil
import subprocess
import warnings
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from lungnode.deidentify.export import Export, Exporter, Original
from lungnode.deidentify.pseudonyms import open_pseudonyms
from tests.ct_images import ct_image, enhanced, legacy_converted
from tests.marked import (
    CODE,
    DATE,
    MARK,
    NAMES,
    UID_ROOT,
    add_everything,
    elements,
    mark_text,
)
from tests.validators import iod_errors

GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "InstanceNumber",
    "Rows",
    "Columns",
    "PixelData",
)

DICOM_TYPE_2: dict[str, object] = {
    "PatientID": "4711",
    "PatientName": "Doe^Jane",
    "StudyDate": "20260305",
    "StudyTime": "1200",
    "SeriesNumber": 1,
    "FrameOfReferenceUID": "1.2.3.9",
} | dict.fromkeys(
    (
        "AccessionNumber",
        "StudyID",
        "PatientBirthDate",
        "PatientSex",
        "ReferringPhysicianName",
        "PositionReferenceIndicator",
        "Manufacturer",
    ),
    "",
)


@pytest.fixture(autouse=True)
def _values_of_hospitals() -> Iterator[None]:
    """Marks are longer than some representations allow, as what hospitals send is."""
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def exporter(tmp_path: Path) -> Exporter:
    data = tmp_path / "data"
    return Exporter(data, tmp_path / "out", open_pseudonyms(data))


def written(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path


def exported(exporter: Exporter, *paths: Path, patient: str = "4711", study: str = "1.2.3") -> Export:
    instances = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in paths}
    with exporter.export(Original(study, patient, instances)) as export:
        assert not export.folder.exists()
    return export


def copied(exporter: Exporter, ds: Dataset, folder: Path, study: str = "1.2.3") -> Dataset:
    """The de-identified copy of one image."""
    export = exported(exporter, written(ds, folder / "original.dcm"), study=study)
    assert export.left_out == ()
    (path,) = export.files.values()
    return dcmread(path)


def test_no_mark_of_any_attribute_of_the_dictionary_leaves(exporter: Exporter, tmp_path: Path) -> None:
    """Some 3,000 attributes, at the top and in items, private ones, an overlay and a curve."""
    name = NAMES["ISO_IR 192"]
    ds = ct_image(SpecificCharacterSet="ISO_IR 192")
    add_everything(ds, name)
    ds.file_meta.SourceApplicationEntityTitle = MARK

    copy = copied(exporter, ds, tmp_path)

    content = Path(str(copy.filename)).read_bytes()
    parts = [part.encode() for part in (name, *name.replace("=", "^").split("^"))]
    assert [
        word for word in (MARK.encode(), DATE.encode(), UID_ROOT.encode(), *parts) if word in content
    ] == []
    assert {element.VR for element in elements(copy) if CODE in str(element.value)} == {"CS"}
    assert [element for element in elements(copy) if element.tag.is_private] == []


@pytest.mark.parametrize("character_set", NAMES)
def test_no_name_leaves_in_any_character_set(exporter: Exporter, tmp_path: Path, character_set: str) -> None:
    ds = ct_image(SpecificCharacterSet=character_set.split("\\"), PatientName="", ImageComments="x")
    ds.OperatorsName = ds.ReferringPhysicianName = "a"
    ds.RequestAttributesSequence = [Dataset()]
    ds.RequestAttributesSequence[0].RequestedProcedureDescription = "x"
    mark_text(ds, NAMES[character_set])
    ds.PatientName = NAMES[character_set]
    original = written(ds, tmp_path / "original.dcm")
    stored: Any = dcmread(original).PatientName

    copy = copied(exporter, ds, tmp_path)

    content = Path(str(copy.filename)).read_bytes()
    assert stored.original_string in original.read_bytes()
    assert stored.original_string not in content
    assert MARK.encode() not in content


def test_a_phantom_s_copy_passes_the_judges(exporter: Exporter, tmp_path: Path) -> None:
    from lungnode.phantom import phantom_study  # noqa: PLC0415 - it takes long to load

    phantom = phantom_study(tmp_path / "phantom", 3, size=64)

    export = exported(exporter, *phantom.paths, study=phantom.study_instance_uid)

    assert len(export.files) == 3
    assert [error for path in export.files.values() for error in iod_errors(path)] == []
    assert [_dumped(path) for path in export.files.values()] != []
    assert {path.parent.name for path in export.files.values()} == {
        dcmread(path).StudyInstanceUID for path in export.files.values()
    }


def _dumped(path: Path) -> str:
    if shutil.which("dcmdump") is None:
        pytest.skip("dcmdump is absent: apt install dcmtk")
    done = subprocess.run(
        ["dcmdump", "+U8", str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "covid-P001/P001_0050.dcm",
        "normal-001",
        "syntaxes/CTImage.dcm",
        "syntaxes/P001_0060_deflated.dcm",
        "syntaxes/P001_0060_explicit_be.dcm",
        "syntaxes/P001_0060_implicit_le.dcm",
        "syntaxes/P001_0060_jpegls_lossless.dcm",
        "syntaxes/P001_0060_rle.dcm",
    ],
)
def test_a_marked_real_image_keeps_pixels_and_geometry_and_no_mark(
    exporter: Exporter, tmp_path: Path, shared_data: Path, name: str
) -> None:
    source = shared_data / "dicom" / name
    source = source if source.is_file() else sorted(source.iterdir())[70]
    ds = dcmread(source)
    mark_text(ds, "Äneas^Rüdiger")
    ds.SpecificCharacterSet, ds.PatientComments, ds.AdditionalPatientHistory = "ISO_IR 100", MARK, MARK
    original = dcmread(written(ds, tmp_path / "marked.dcm"))

    copy = copied(exporter, ds, tmp_path)

    assert [key for key in GEOMETRY if copy.get(key) != original.get(key)] == []
    assert copy.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    new = set(iod_errors(Path(str(copy.filename)))) - set(iod_errors(tmp_path / "marked.dcm"))
    assert new == set()
    text = _dumped(Path(str(copy.filename)))
    assert [word for word in (MARK, DATE, UID_ROOT, "Rüdiger", "Äneas") if word in text] == []


def test_multi_frame_images_are_de_identified_in_their_functional_groups(
    exporter: Exporter, tmp_path: Path
) -> None:
    series = [ct_image(**DICOM_TYPE_2, ImagePositionPatient=[0, 0, z]) for z in (0, 2, 4)]

    for make in (legacy_converted, enhanced):
        original = make(series)
        copy = copied(exporter, make(series), tmp_path, study=make.__name__)

        planes = [_planes(ds) for ds in (original, copy)]
        assert planes[0] == planes[1]
        assert len(planes[1]) == 3
        kept = {element.value for element in elements(copy) if element.VR == "UI"}
        assert not kept & {ds.SOPInstanceUID for ds in series}
        assert "Doe" not in str(copy)


def _planes(ds: Dataset) -> list[list[float]]:
    planes = (frame.PlanePositionSequence[0] for frame in ds.PerFrameFunctionalGroupsSequence)
    return [[float(value) for value in plane.ImagePositionPatient] for plane in planes]


def test_two_studies_of_a_patient_keep_one_person_and_their_interval(
    exporter: Exporter, tmp_path: Path
) -> None:
    first, second = (
        ct_image(StudyInstanceUID=f"1.2.3.{day}", StudyDate=f"202603{day}", PatientID="4711")
        for day in (10, 25)
    )

    copies = [
        dcmread(path)
        for ds, name in ((first, "a"), (second, "b"))
        for path in exported(exporter, written(ds, tmp_path / name), study=ds.StudyInstanceUID).files.values()
    ]

    assert copies[0].PatientID == copies[1].PatientID == copies[0].PatientName != "4711"
    days = [date.fromisoformat(copy.StudyDate) for copy in copies]
    assert (days[1] - days[0]).days == 15
    assert date(2026, 3, 10) - days[0] >= timedelta(days=365)


def test_references_between_images_still_hold(exporter: Exporter, tmp_path: Path) -> None:
    first, second = ct_image(FrameOfReferenceUID="1.2.3.9"), ct_image(FrameOfReferenceUID="1.2.3.9")
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    second.ReferencedImageSequence = [item]

    files = exported(exporter, written(first, tmp_path / "a"), written(second, tmp_path / "b")).files

    one, two = (dcmread(files[ds.SOPInstanceUID]) for ds in (first, second))
    assert two.ReferencedImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert one.FrameOfReferenceUID == two.FrameOfReferenceUID != "1.2.3.9"


def test_the_copy_says_how_it_was_made(exporter: Exporter, tmp_path: Path) -> None:
    copy = copied(exporter, ct_image(PatientAge="093Y", PatientSex="F"), tmp_path)

    items = copy.DeidentificationMethodCodeSequence
    assert [(item.CodeValue, item.CodingSchemeDesignator) for item in items] == [
        ("113100", "DCM"), ("113105", "DCM"), ("113107", "DCM"), ("113108", "DCM"),
    ]  # fmt: skip
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    assert any("PS3.15" in text for text in copy.DeidentificationMethod)
    assert (copy.PatientAge, copy.PatientSex) == ("090Y", "F")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "Burned In Annotation is YES"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "class Secondary Capture Image Storage"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "SCREEN SAVE"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"SeriesInstanceUID": ""}, "SeriesInstanceUID is missing"),
        ({"OverlayRows": None}, "spare bits"),
    ],
)
def test_pixels_that_may_show_text_stay_here(
    exporter: Exporter, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    good = ct_image(SOPInstanceUID="1.2.3.4.1")
    bad = ct_image(SOPInstanceUID="1.2.3.4.2")
    for keyword, value in changes.items():
        if keyword == "OverlayRows":
            bad.add_new(0x60000010, "US", 64)
        else:
            setattr(bad, keyword, value)
    original = Original(
        "1.2.3",
        "4711",
        {"1.2.3.4.1": written(good, tmp_path / "good.dcm"), "1.2.3.4.2": written(bad, tmp_path / "bad.dcm")},
    )

    with exporter.export(original) as export:
        pass

    (left_out,) = export.left_out
    assert reason in left_out.sentence
    assert "bad.dcm" in left_out.sentence
    assert list(export.files) == ["1.2.3.4.1"]
    assert [path.name for path in export.folder.iterdir()] == [path.name for path in export.files.values()]
