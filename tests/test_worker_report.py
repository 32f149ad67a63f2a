from typing import Any

import pytest
from highdicom.sr import Comprehensive3DSR, MeasurementReport
from pydicom.dataset import Dataset

from lungnode import codes
from lungnode.narrative import describe
from tests.findings import (
    CREATED_AT,
    DIGEST,
    SERIES,
    STUDY,
    Study,
    as_received,
    context,
    ct_study,
    enhanced_study,
    finding,
)
from worker.outputs.report import compose_report
from worker.result import Verdict

ANALYSED = (Verdict.POSITIVE, Verdict.NEGATIVE, Verdict.UNDETERMINED)
PRESENCE = {"positive": "52101004", "negative": "272519000", "undetermined": "121059"}


def report(verdict: Verdict = Verdict.POSITIVE, study: Study | None = None, **changes: Any) -> Dataset:
    study = study or ct_study()
    return compose_report(finding(study, verdict), context(**changes), study.sources)


def named(item: Dataset, code: str) -> list[Dataset]:
    """All content items below `item` whose concept name has this code."""
    children = item.get("ContentSequence", [])
    found = [child for child in children if child.ConceptNameCodeSequence[0].CodeValue == code]
    return found + [deeper for child in children for deeper in named(child, code)]


def values(item: Dataset, code: str) -> list[str]:
    """Their values: a code, a number or a text."""
    found = []
    for one in named(item, code):
        if one.ValueType == "CODE":
            found.append(one.ConceptCodeSequence[0].CodeValue)
        elif one.ValueType == "NUM":
            found.append(str(one.MeasuredValueSequence[0].NumericValue))
        else:
            found.append(str(one.get("TextValue") or one.get("UID")))
    return found


def test_the_root_says_which_template_language_and_procedure_it_has() -> None:
    made = report()

    assert made.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert made.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert values(made, "121049") == ["en-US"]
    assert values(made, "121058") == ["77477000"]
    assert [item.ConceptNameCodeSequence[0].CodeValue for item in made.ContentSequence][-7:] == [
        *("121077",),
        *("121106",) * 6,
    ]


@pytest.mark.parametrize("verdict", ANALYSED)
def test_a_verdict_is_a_presence_of_the_finding_with_its_probability(verdict: Verdict) -> None:
    made = report(verdict)

    assert values(made, "121071") == ["840539006"]
    assert values(made, "363698007") == ["39607008"]
    assert values(made, "121052") == [PRESENCE[verdict.value]]
    assert values(made, "122157") == ["0.8125"]
    assert values(made, "122411") == ["0.5"]
    unit = named(made, "122157")[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("{0:1}", "UCUM")


@pytest.mark.parametrize(
    ("verdict", "name", "value"),
    [(Verdict.ERROR, "111017", "111245"), (Verdict.NOT_APPLICABLE, "111065", "111225")],
)
def test_without_a_verdict_the_report_names_no_finding_but_the_reason(
    verdict: Verdict, name: str, value: str
) -> None:
    made = report(verdict)

    assert values(made, name) == [value]
    assert values(made, "121071") == values(made, "121052") == values(made, "122157") == []
    assert "The reason of it." in values(made, "121077")[0]


def test_the_algorithm_is_identified_by_name_version_and_digest() -> None:
    made = report()

    assert values(made, "111001") == ["lungnode-resnet50"]
    assert values(made, "111003") == ["1.0"]
    assert values(made, "111002") == [f"sha256={DIGEST}", "threshold=0.5000"]


def test_the_report_says_what_ran_the_model() -> None:
    assert values(report(runtime="openvino int8"), "111002")[-1] == "runtime=openvino int8"


def test_another_model_is_another_device() -> None:
    made, other = report(), report(model_digest="f" * 64)

    assert values(made, "121012") != values(other, "121012")
    equipment = made.ContributingEquipmentSequence[0]
    assert equipment.DeviceUID == values(made, "121012")[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_tracking_stays_the_same_when_a_study_is_revised() -> None:
    made, revised = report(), report(revision=2)

    assert values(made, "112039") == ["Lungnode COVID-19"]
    assert values(made, "112040") == values(revised, "112040")


@pytest.mark.parametrize("verdict", Verdict)
def test_the_flags_say_complete_unverified_preliminary(verdict: Verdict) -> None:
    made = report(verdict)

    flags = (made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag)
    assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")


def evidence(made: Dataset) -> list[tuple[str, str, str]]:
    return [
        (study.StudyInstanceUID, series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
        for study in made.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def test_evidence_is_every_image_used_and_no_other() -> None:
    study = ct_study(6)
    used = finding(study, slices=study.slices[1:4])

    made = compose_report(used, context(), study.sources)

    expected = [(STUDY, SERIES, item.sop_instance_uid) for item in used.slices]
    assert evidence(made) == expected
    for code in ("260753009", "121112"):  # image library, source of measurement
        images = [item for item in named(made, code) if item.ValueType == "IMAGE"]
        references = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images]
        assert references == [uid for _, _, uid in expected]


def test_when_nothing_was_analysed_evidence_is_every_image_whatever_their_order() -> None:
    study = ct_study()
    turned = Study(dict(reversed(study.sources.items())), study.slices)

    made = report(Verdict.ERROR, study)

    assert {uid for _, _, uid in evidence(made)} == set(study.sources)
    assert evidence(report(Verdict.ERROR, turned)) == evidence(made)


def test_frames_of_an_enhanced_image_are_named() -> None:
    study = enhanced_study(6)
    used = finding(study, slices=study.slices[2:5])

    made = compose_report(used, context(), study.sources)

    assert len(evidence(made)) == 1
    (image,) = named(made, "121112")
    assert list(image.ReferencedSOPSequence[0].ReferencedFrameNumber) == [3, 4, 5]


def test_the_image_library_says_once_what_all_images_share() -> None:
    made = report(study=ct_study(8))

    assert values(made, "121139") == ["CT"]
    assert [float(value) for value in values(made, "110910") + values(made, "110911")] == [64, 96]
    assert [float(value) for value in values(made, "111066") + values(made, "111026")] == [0.75, 0.5]


def test_a_revised_report_names_its_predecessor() -> None:
    made = report(revision=2, predecessors={"sr": (("2.25.1", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.2"),)})

    (study,) = made.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (STUDY, "2.25.1")
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.2"
    assert "PredecessorDocumentsSequence" not in report()


def test_the_request_that_the_study_answers_is_named() -> None:
    asked = Dataset()
    asked.RequestedProcedureID = "RP1"
    asked.RequestedProcedureDescription = "CT thorax"
    asked.ScheduledProcedureStepID = "SPS1"

    (request,) = report(study=ct_study(RequestAttributesSequence=[asked])).ReferencedRequestSequence

    assert (request.StudyInstanceUID, request.AccessionNumber) == (STUDY, "A100")
    assert (request.RequestedProcedureID, request.RequestedProcedureDescription) == ("RP1", "CT thorax")
    assert request.PlacerOrderNumberImagingServiceRequest is None
    assert "ReferencedRequestSequence" not in report()


def test_completeness_use_and_model_are_said_in_words() -> None:
    said = " ".join(values(report(completeness="incomplete: 3 gaps"), "121106"))

    assert "incomplete: 3 gaps" in said
    assert "not for diagnostic use" in said
    assert DIGEST in said
    assert "not for diagnostic use" not in " ".join(values(report(qualification="PRODUCT"), "121106"))


def test_all_our_text_is_ascii() -> None:
    study = ct_study()
    made = compose_report(finding(study, choice=("Gantry tilt 12°, 5 µm.",)), context(), study.sources)

    assert all(text.isascii() for text in values(made, "121106"))
    assert "Gantry tilt 12 degrees, 5 ?m." in values(made, "121106")


def test_highdicom_reads_the_report_back_as_a_measurement_report() -> None:
    read = Comprehensive3DSR.from_dataset(as_received(report()))

    assert isinstance(read.content, MeasurementReport)
    (group,) = read.content.get_image_measurement_groups(
        finding_type=codes.COVID_19, finding_site=codes.LUNG, tracking_uid=values(report(), "112040")[0]
    )
    (probability, threshold) = group.get_measurements()
    assert (probability.value, threshold.value) == (0.8125, 0.5)
    assert [item.name for item in group.get_qualitative_evaluations()] == [codes.PRESENCE]


def test_a_report_as_text_has_its_items_and_counts_its_images() -> None:
    text = describe(report())

    assert "Lungnode report (COMPLETE, UNVERIFIED, PRELIMINARY)" in text
    assert "Probability: 0.8125" in text
    assert "Presence of property: Present" in text
    assert text.count("5 images") == 2
    assert "Doe" not in text


def test_a_report_as_text_counts_frames() -> None:
    assert "5 frames of 1 images" in describe(report(study=enhanced_study()))


def test_the_date_of_the_content_is_the_analysis_s() -> None:
    made = report()

    assert CREATED_AT.startswith("2026-03-04T05:06:07")
    assert (made.ContentDate, made.ContentTime) == ("20260304", "050607")
