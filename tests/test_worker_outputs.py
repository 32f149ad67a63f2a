import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.findings import (
    NAMES,
    SERIES,
    STUDY,
    Study,
    as_bytes,
    context,
    ct_study,
    enhanced_study,
    finding,
)
from tests.validators import dump_text, entity_errors, iod_errors, report_text
from worker.outputs.compose import Composed, affordable, compose
from worker.outputs.header import KINDS
from worker.outputs.source import CLINICAL_TRIAL, GENERAL_STUDY, PATIENT, PATIENT_STUDY, REQUIRED
from worker.result import Context, Verdict

IMAGES = ("sc", "sc-multi", "pm")
REPORTS = ("sr", "sr-comp", "sr-enh")
EARLIER = dict.fromkeys(REPORTS, (("2.25.11", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.12"),))

# Their tables list what holds for one value type or one functional group beside what holds for all.
JUDGED_ELSEWHERE = ("sr-document-content", "parametric-map-multi-frame-functional-groups")
# C.8.6.3 makes it conditional where the generic table of the Multi-frame Module does not.
SHARED_MACROS = ("FrameIncrementPointer",)

CASES: dict[str, tuple[Verdict, dict[str, Any]]] = {
    "positive": (Verdict.POSITIVE, {}),
    "negative": (Verdict.NEGATIVE, {}),
    "undetermined": (Verdict.UNDETERMINED, {}),
    "failed": (Verdict.ERROR, {}),
    "not applicable": (Verdict.NOT_APPLICABLE, {}),
    "revised": (Verdict.POSITIVE, {"revision": 2, "predecessors": EARLIER}),
    "incomplete": (Verdict.POSITIVE, {"completeness": "incomplete: 3 gaps"}),
}


def named_study(script: str) -> Study:
    character_set, name = NAMES[script]
    return ct_study(SpecificCharacterSet=character_set, PatientName=name, OtherPatientNames=[name, "Doe^J"])


def composed(study: Study, groups: Iterable[str], case: str = "positive", **changes: Any) -> list[Composed]:
    verdict, of_case = CASES[case]
    return compose(
        finding(study, verdict), context(**of_case, **changes), study.sources, study.gray, set(groups)
    )


def written(made: list[Composed], folder: Path) -> list[Path]:
    paths = [folder / f"{number}-{one.group}.dcm" for number, one in enumerate(made)]
    for path, one in zip(paths, made, strict=True):
        path.write_bytes(as_bytes(one.dataset))
    return paths


def written_sources(study: Study, folder: Path) -> list[Path]:
    paths = [folder / f"source-{number}.dcm" for number in range(len(study.sources))]
    for path, source in zip(paths, study.sources.values(), strict=True):
        path.write_bytes(as_bytes(source))
    return paths


@pytest.mark.parametrize("script", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_no_judge_finds_an_error_in_any_report(case: str, script: str, tmp_path: Path) -> None:
    paths = written(composed(named_study(script), ["sr"], case), tmp_path)

    assert iod_errors(paths[0]) == []
    assert "Imaging Measurement Report" in report_text(paths[0])


@pytest.mark.parametrize("case", CASES)
def test_no_judge_finds_an_error_in_the_other_classes_of_report(case: str, tmp_path: Path) -> None:
    paths = written(composed(named_study("japanese"), ["sr-comp", "sr-enh"], case), tmp_path)

    assert [error for path in paths for error in iod_errors(path)] == []
    assert all("Imaging Measurement Report" in report_text(path) for path in paths)


@pytest.mark.parametrize("script", NAMES)
def test_no_judge_finds_an_error_in_any_image(script: str, tmp_path: Path) -> None:
    paths = written(composed(named_study(script), IMAGES), tmp_path)

    assert [error for path in paths for error in iod_errors(path)] == []
    assert entity_errors(paths, whole=False) == []


@pytest.mark.parametrize("group", KINDS)
def test_no_judge_finds_an_error_in_what_enhanced_ct_gives(group: str, tmp_path: Path) -> None:
    paths = written(composed(enhanced_study(), [group]), tmp_path)

    assert [error for path in paths for error in iod_errors(path)] == []


@pytest.mark.parametrize("script", NAMES)
def test_in_the_source_s_character_set_outputs_agree_with_it_byte_for_byte(
    script: str, tmp_path: Path
) -> None:
    study = named_study(script)

    made = composed(study, [f"{group}+src" for group in KINDS])

    wanted = study.slices and study.sources[study.slices[0].sop_instance_uid].get("SpecificCharacterSet")
    assert all(one.dataset.get("SpecificCharacterSet") == wanted for one in made)
    paths = written(made, tmp_path)
    sources = written_sources(study, tmp_path)
    assert entity_errors([*paths, *sources]) == []
    if script != "chinese-gbk":  # dciodvfy does not know GBK: it finds the sources wrong as well
        assert [error for path in paths for error in iod_errors(path)] == []


@pytest.mark.parametrize("script", ["ascii", "utf-8"])
def test_outputs_agree_byte_for_byte_with_a_source_in_ascii_or_utf_8(script: str, tmp_path: Path) -> None:
    study = named_study(script)

    paths = written(composed(study, KINDS), tmp_path)

    assert entity_errors([*paths, *written_sources(study, tmp_path)]) == []


@pytest.mark.parametrize("script", NAMES)
def test_dcmtk_reads_every_component_group_of_a_name(script: str, tmp_path: Path) -> None:
    name = NAMES[script][1]

    for path in written(composed(named_study(script), KINDS), tmp_path):
        assert dump_text(path, "PatientName", "OtherPatientNames") == [name, rf"{name}\Doe^J"]


def test_a_japanese_name_has_the_bytes_of_the_standard_s_example() -> None:
    # Source: PS3.5 H.3.1, Example 1.
    expected = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"

    for one in composed(named_study("japanese"), [f"{group}+src" for group in KINDS]):
        assert expected in as_bytes(one.dataset)


@pytest.mark.parametrize("script", ["ascii", "utf-8"])
def test_a_name_in_ascii_or_utf_8_keeps_its_bytes(script: str) -> None:
    study = named_study(script)

    for one in composed(study, KINDS):
        assert NAMES[script][1].encode() in as_bytes(one.dataset)


def test_all_patient_and_study_attributes_equal_the_source_s() -> None:
    study = ct_study(
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        OtherPatientIDsSequence=[_other_id("1"), _other_id("2")],
        IssuerOfPatientID="",
        PatientWeight="71.5",
        ProcedureCodeSequence=[],
        ClinicalTrialProtocolID="T1",
        ReferringPhysicianName="",
    )
    source = next(iter(study.sources.values()))
    keywords = (*PATIENT, *GENERAL_STUDY, *PATIENT_STUDY, *CLINICAL_TRIAL)

    for one in composed(study, KINDS):
        again = dcmread(io.BytesIO(as_bytes(one.dataset)))
        for keyword in keywords:
            assert again.get(keyword) == source.get(keyword) or (
                keyword in REQUIRED and again[keyword].is_empty
            ), keyword
            assert (keyword in again) == (keyword in source or keyword in REQUIRED)


def _other_id(value: str) -> Dataset:
    item = Dataset()
    item.PatientID, item.TypeOfPatientID, item.IssuerOfPatientID = value, "TEXT", "病院"
    return item


def test_odd_sources_are_answered_all_the_same(tmp_path: Path) -> None:
    study = ct_study(
        StudyID=None,
        PatientSex=None,
        BodyPartExamined=None,
        FrameOfReferenceUID=None,
        AccessionNumber=None,
    )
    for source in study.sources.values():
        source.add_new(0x00091001, "LO", "private")
        source.SpecificCharacterSet = "ISO_IR 999"

    paths = written(composed(study, KINDS), tmp_path)

    assert [error for path in paths for error in iod_errors(path)] == []
    assert {dcmread(path).get("BodyPartExamined") for path in paths} == {None, "CHEST"}


def test_a_slice_without_geometry_has_a_heatmap_without_geometry_and_no_map(tmp_path: Path) -> None:
    study = ct_study(ImagePositionPatient=None, PixelSpacing=None)

    made = composed(study, KINDS)

    assert {one.group for one in made} == {*KINDS} - {"pm"}
    assert not any("ImagePositionPatient" in one.dataset for one in made)
    assert [error for path in written(made, tmp_path) for error in iod_errors(path)] == []


def test_composing_twice_gives_the_same_bytes() -> None:
    study = ct_study()
    groups = [*KINDS, *(f"{group}+src" for group in KINDS)]

    once, again = composed(study, groups), composed(study, groups)

    assert [as_bytes(one.dataset) for one in once] == [as_bytes(one.dataset) for one in again]


def test_every_time_is_the_analysis_s_or_the_source_s() -> None:
    known = {"20260304", "050607", "20260304050607+0000", "040000", "19500607"}

    for one in composed(ct_study(), KINDS):
        times = [element for element in one.dataset.iterall() if element.VR in ("DA", "TM", "DT")]
        assert {str(element.value) for element in times} <= known


def test_times_are_in_the_zone_that_the_source_names() -> None:
    study = ct_study(TimezoneOffsetFromUTC="-0730")

    for one in composed(study, KINDS):
        assert (one.dataset.ContentDate, one.dataset.ContentTime) == ("20260303", "213607")


def test_uids_depend_on_study_model_revision_and_kind_and_never_on_values() -> None:
    study = ct_study()
    other = replace(finding(study), probability=0.25)

    def uids(of_context: Context, of_finding: Any = None) -> list[str]:
        made = compose(of_finding or finding(study), of_context, study.sources, study.gray, set(KINDS))
        return [one.dataset.SOPInstanceUID for one in made]

    first = uids(context())

    assert len(set(first)) == len(first)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in first)
    assert uids(context(), other) == first
    assert not set(uids(context(revision=2))) & set(first)
    assert not set(uids(context(model_digest="f" * 64))) & set(first)
    assert not set(uids(context(study_instance_uid="1.2.3"))) & set(first)


def test_a_group_is_one_series_and_another_group_another() -> None:
    made = composed(ct_study(), [*KINDS, "sr+src"])

    series = {(one.group, one.dataset.SeriesInstanceUID) for one in made}

    assert len(series) == len({uid for _, uid in series}) == len(KINDS) + 1
    assert {one.dataset.StudyInstanceUID for one in made} == {STUDY}
    assert SERIES not in {uid for _, uid in series}


def test_reports_come_first_and_the_summary_page_before_the_heatmaps() -> None:
    made = composed(ct_study(), ["pm", "sc", "sr"])

    assert [one.group for one in made] == ["sr", "sc", "sc", "sc", "sc", "pm"]
    assert [one.dataset.InstanceNumber for one in made] == [1, 1, 2, 3, 4, 1]


@pytest.mark.parametrize("case", ["failed", "not applicable"])
def test_without_analysed_slices_there_is_a_report_alone(case: str) -> None:
    made = composed(ct_study(), KINDS, case)

    assert {one.group for one in made} == set(REPORTS)


def test_a_destination_gets_at_most_20_megabytes_of_a_study() -> None:
    study = ct_study(40, Rows=1024, Columns=1024)
    study.rows = study.columns = 1024
    noise = np.random.default_rng(1).integers(0, 256, (1024, 1024)).astype(np.uint8)

    made = compose(finding(study), context(heatmaps=40), study.sources, lambda _: noise, {"sr", "sc", "pm"})

    assert affordable(finding(study), context(heatmaps=40), study.sources) == 5
    assert 10_000_000 < sum(len(as_bytes(one.dataset)) for one in made) <= 20_000_000


@pytest.mark.parametrize("group", KINDS)
def test_mandatory_modules_have_their_type_1_and_2_attributes(group: str) -> None:
    """Against highdicom's tables of PS3.3."""
    for one in composed(ct_study(), [group]):
        iod = get_sop_class_iod_map()[one.dataset.SOPClassUID]
        modules = [row["key"] for row in get_iod_module_map()[iod] if row["usage"] == "M"]
        missing = [
            f"{module}: {'.'.join([*row['path'], row['keyword']])}"
            for module in modules
            if module not in JUDGED_ELSEWHERE
            for row in get_module_attribute_map()[module]
            for holder in _holders(one.dataset, row["path"])
            if _is_missing(holder, row["keyword"], row["type"]) and row["keyword"] not in SHARED_MACROS
        ]
        assert missing == []


def _holders(data_set: Dataset, path: list[str]) -> list[Dataset]:
    found = [data_set]
    for keyword in path:
        found = [item for one in found for item in one.get(keyword) or []]
    return found


def _is_missing(holder: Dataset, keyword: str, of_type: str) -> bool:
    if of_type == "1":
        return keyword not in holder or holder[keyword].is_empty
    return of_type == "2" and keyword not in holder


def test_outputs_of_a_real_siemens_study_pass_all_judges(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "dicom/covid-P001").iterdir())[60:72]

    paths = written(composed(_real_study(files), KINDS), tmp_path)

    assert [error for path in paths for error in iod_errors(path)] == []
    assert entity_errors(paths, whole=False) == []


def test_outputs_of_a_real_ge_slice_without_body_part_pass_all_judges(
    shared_data: Path, tmp_path: Path
) -> None:
    study = _real_study([shared_data / "dicom/syntaxes/CTImage.dcm"])

    paths = written(composed(study, KINDS), tmp_path)

    assert [error for path in paths for error in iod_errors(path)] == []
    assert entity_errors(paths, whole=False) == []


def _real_study(files: list[Path]) -> Study:
    model = ct_study(len(files)).slices
    images = [dcmread(file, stop_before_pixels=True) for file in files]
    slices = tuple(
        replace(item, sop_instance_uid=image.SOPInstanceUID, sop_class_uid=image.SOPClassUID)
        for item, image in zip(model, images, strict=True)
    )
    sources: dict[str, Dataset] = {image.SOPInstanceUID: image for image in images}
    return Study(sources, slices, rows=images[0].Rows, columns=images[0].Columns)
