"""Results as HL7: golden values are the Standard's, read back by splitting and by hl7apy's strict parser."""

import io
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from pydicom import dcmread
from pydicom.dataset import Dataset

from lungnode.settings import Hl7Destination
from tests.findings import STUDY, as_bytes, context, ct_study, finding
from worker.messages.oru import compose_oru
from worker.messages.told import read_report
from worker.outputs.compose import compose
from worker.result import Verdict

RIS = Hl7Destination(name="ris", kind="hl7", host="127.0.0.1", port=2575, receiving_application="RIS")


def report(
    verdict: Verdict = Verdict.POSITIVE, *, qualification: str = "RESEARCH", **attributes: Any
) -> Dataset:
    study = ct_study(**attributes)
    of_analysis = context(qualification=qualification)
    (one,) = compose(finding(study, verdict), of_analysis, study.sources, study.gray, {"sr"})
    return dcmread(io.BytesIO(as_bytes(one.dataset)))


def message(made: Dataset, destination: Hl7Destination = RIS) -> str:
    return compose_oru(read_report(made), destination, "0123456789ABCDEFGHJK")


def fields(text: str, segment: str) -> list[list[str]]:
    """The fields of each segment of a kind; number 1 of MSH is the separator itself."""
    lines = [line.split("|") for line in text.split("\r") if line.startswith(f"{segment}|")]
    return [["MSH", *line] if segment == "MSH" else line for line in lines]


def observations(text: str) -> dict[str, list[str]]:
    """The values by the identifier of what was observed."""
    found: dict[str, list[str]] = {}
    for obx in fields(text, "OBX"):
        found.setdefault(obx[3].partition("^")[0] or obx[3], []).append(obx[5])
    return found


@pytest.mark.parametrize("verdict", Verdict)
def test_every_message_is_valid_by_strict_rules(verdict: Verdict) -> None:
    parsed = parse_message(message(report(verdict)), validation_level=VALIDATION_LEVEL.STRICT)

    assert parsed.validate()


def test_the_header_says_who_what_when_and_in_which_letters() -> None:
    (msh,) = fields(message(report()), "MSH")

    assert (msh[3], msh[5], msh[7]) == ("LUNGNODE", "RIS", "20260304050607+0000")
    assert (msh[9], msh[10], msh[11]) == ("ORU^R01^ORU_R01", "0123456789ABCDEFGHJK", "P")
    assert (msh[12], msh[18]) == ("2.5.1", "UNICODE UTF-8")


def test_patient_and_order_are_the_study_s() -> None:
    request = Dataset()
    request.PlacerOrderNumberImagingServiceRequest, request.RequestedProcedureID = "P7", "RP1"
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3", "ISO"
    text = message(
        report(
            IssuerOfPatientID="HOSP",
            IssuerOfPatientIDQualifiersSequence=[issuer],
            RequestAttributesSequence=[request],
            TimezoneOffsetFromUTC="+0100",
        )
    )

    (pid,), (obr,) = fields(text, "PID"), fields(text, "OBR")
    assert (pid[3], pid[5]) == ("4711^^^HOSP&1.2.3&ISO^PI", "Doe^John^^^^^^A")
    assert (pid[7], pid[8]) == ("19500607", "M")
    assert (obr[2], obr[7], obr[18], obr[19]) == ("P7", "20260304040000+0100", "A100", "RP1")
    assert obr[4] == "COVID19CT^COVID-19 analysis of a chest CT^L"


def test_a_name_keeps_its_scripts_prefix_and_suffix() -> None:
    # Source: PS3.5 H.3.1 and 6.2.1.1; HL7 2.5.1 2.A.88, suffix before prefix.
    japanese = report(SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    titled = report(PatientName="Doe^John^Q^Dr^Jr")

    (pid,) = fields(message(japanese), "PID")
    assert pid[5] == "Yamada^Tarou^^^^^^A~山田^太郎^^^^^^I~やまだ^たろう^^^^^^P"
    assert fields(message(titled), "PID")[0][5] == "Doe^John^Q^Jr^Dr^^^A"


def test_what_separates_fields_is_escaped_in_them() -> None:
    # Source: HL7 2.5.1 2.7.1.
    text = message(report(PatientID="4|7&1~1", AccessionNumber="A^1"))

    (pid,), (obr,) = fields(text, "PID"), fields(text, "OBR")
    assert pid[3] == "4\\F\\7\\T\\1\\R\\1^^^^PI"
    assert obr[18] == "A\\S\\1"


@pytest.mark.parametrize(
    ("verdict", "presence"),
    [
        (Verdict.POSITIVE, "52101004^Present^SCT"),
        (Verdict.NEGATIVE, "272519000^Absent^SCT"),
        (Verdict.UNDETERMINED, "121059^Presence Undetermined^DCM"),
    ],
)
def test_a_result_is_preliminary_and_says_finding_probability_and_report(
    verdict: Verdict, presence: str
) -> None:
    made = report(verdict)
    text = message(made)

    found = observations(text)
    assert (found["840539006"], found["122157"], found["122411"]) == ([presence], ["0.8125"], ["0.5"])
    assert (found["110180"], found["^SR Instance UID"]) == ([STUDY], [made.SOPInstanceUID])
    assert {obx[11] for obx in fields(text, "OBX")} == {"P"}
    assert fields(text, "OBR")[0][25] == "P"


@pytest.mark.parametrize("verdict", [Verdict.ERROR, Verdict.NOT_APPLICABLE])
def test_a_study_that_was_not_analysed_has_no_result_and_a_reason(verdict: Verdict) -> None:
    text = message(report(verdict))

    found = observations(text)
    assert not {"840539006", "122157"} & set(found)
    assert "The reason of it." in found["121077"][0]
    assert {obx[11] for obx in fields(text, "OBX")} == {"X"}
    assert fields(text, "OBR")[0][25] == "X"


@pytest.mark.parametrize("qualification", ["RESEARCH", "PRODUCT"])
def test_it_is_for_research_until_the_operator_says_otherwise(qualification: str) -> None:
    text = message(report(qualification=qualification))

    assert ("research use only, not for diagnostic use" in text) == (qualification == "RESEARCH")


def test_a_later_revision_has_the_same_filler_order_number() -> None:
    study = ct_study()
    numbers = set()
    for revision in (1, 2):
        (one,) = compose(finding(study), context(revision=revision), study.sources, study.gray, {"sr"})
        numbers.add(fields(message(one.dataset), "OBR")[0][3])

    assert len(numbers) == 1


def test_what_the_source_does_not_say_is_not_made_up() -> None:
    """A receiver that wants a patient's ID will refuse it, with its reason in the delivery."""
    made = report(PatientName="", PatientID="", PatientBirthDate="", StudyDate="", AccessionNumber="")

    (pid,) = fields(message(made), "PID")

    assert pid == ["PID", "1", "", "", "", "^^^^^^U", "", "", "M"]
