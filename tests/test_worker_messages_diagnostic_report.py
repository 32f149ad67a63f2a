"""Results as FHIR: what a server finds in them, read as plain JSON and by FHIR's models."""

import json
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from pydicom.dataset import Dataset

from lungnode.settings import FhirDestination
from tests.findings import DIGEST, STUDY
from tests.test_worker_messages_oru import report
from worker.messages.diagnostic_report import compose_bundle
from worker.messages.told import read_report
from worker.result import Verdict

EHR = FhirDestination(
    name="ehr",
    kind="fhir",
    url="https://fhir.example.org/r4",
    patient_system="https://hospital.example.org/patients",
    accession_system="https://hospital.example.org/accessions",
)
SCT, DCM = "http://snomed.info/sct", "http://dicom.nema.org/resources/ontology/DCM"


def bundle(made: Dataset, destination: FhirDestination = EHR) -> dict[str, Any]:
    return dict(json.loads(compose_bundle(read_report(made), destination)))


def resources(made: Dataset, destination: FhirDestination = EHR) -> dict[str, dict[str, Any]]:
    entries = bundle(made, destination)["entry"]
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in entries}


@pytest.mark.parametrize("verdict", Verdict)
def test_every_transaction_is_valid_by_fhir_s_models(verdict: Verdict) -> None:
    assert Bundle.model_validate(bundle(report(verdict))).type == "transaction"


def test_both_resources_are_updated_by_their_identifier_so_that_a_repeat_makes_no_second() -> None:
    entries = bundle(report())["entry"]

    for entry, kind in zip(entries, ("DiagnosticReport", "Observation"), strict=True):
        (identifier,) = entry["resource"]["identifier"]
        assert identifier["value"].startswith("urn:oid:2.25.")
        wanted = f"{kind}?identifier=urn:dicom:uid|{identifier['value']}"
        assert entry["request"] == {"method": "PUT", "url": wanted}
    assert entries[0]["resource"]["result"] == [{"reference": entries[1]["fullUrl"]}]


def test_the_same_report_gives_the_same_text() -> None:
    made = report()

    assert compose_bundle(read_report(made), EHR) == compose_bundle(read_report(made), EHR)


def test_a_report_names_study_order_and_patient_and_is_preliminary() -> None:
    found = resources(report(TimezoneOffsetFromUTC="-0730"))["DiagnosticReport"]

    study = {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}
    assert (found["status"], found["imagingStudy"]) == (
        "preliminary",
        [{"type": "ImagingStudy", "identifier": study}],
    )
    patient, order = found["subject"]["identifier"], found["basedOn"][0]["identifier"]
    assert (patient["system"], patient["value"]) == ("https://hospital.example.org/patients", "4711")
    assert (order["system"], order["value"]) == ("https://hospital.example.org/accessions", "A100")
    assert found["effectiveDateTime"] == "2026-03-04T04:00:00-07:30"
    assert found["issued"] == "2026-03-03T21:36:07-07:30"


def test_what_the_study_says_of_its_patient_s_id_counts_more_than_the_settings() -> None:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3.4", "ISO"
    made = report(IssuerOfPatientID="HOSP", IssuerOfPatientIDQualifiersSequence=[issuer])

    identifier = resources(made)["DiagnosticReport"]["subject"]["identifier"]

    assert (identifier["system"], identifier["assigner"]) == ("urn:oid:1.2.3.4", {"display": "HOSP"})


def test_without_a_zone_there_is_no_time_of_day() -> None:
    assert resources(report())["DiagnosticReport"]["effectiveDateTime"] == "2026-03-04"


def test_what_the_source_does_not_say_is_not_made_up() -> None:
    found = resources(report(PatientID="", AccessionNumber="", StudyDate=""))["DiagnosticReport"]

    assert not {"basedOn", "effectiveDateTime"} & set(found)
    assert found["subject"] == {"type": "Patient", "display": "The study names no patient ID."}


@pytest.mark.parametrize(
    ("verdict", "system", "code", "conclusions"),
    [
        (Verdict.POSITIVE, SCT, "52101004", ["840539006"]),
        (Verdict.NEGATIVE, SCT, "272519000", []),
        (Verdict.UNDETERMINED, DCM, "121059", []),
    ],
)
def test_only_what_was_found_is_a_conclusion(
    verdict: Verdict, system: str, code: str, conclusions: list[str]
) -> None:
    found = resources(report(verdict))

    (value,) = found["Observation"]["valueCodeableConcept"]["coding"]
    concepts = found["DiagnosticReport"].get("conclusionCode", [])
    assert (value["system"], value["code"]) == (system, code)
    assert [concept["coding"][0]["code"] for concept in concepts] == conclusions


def test_probability_and_threshold_are_components_of_the_observation() -> None:
    found = resources(report())["Observation"]

    values = {
        component["code"]["coding"][0]["code"]: component["valueQuantity"]["value"]
        for component in found["component"]
    }
    assert values == {"122157": 0.8125, "122411": 0.5}
    assert found["component"][0]["valueQuantity"]["system"] == "http://unitsofmeasure.org"
    assert DIGEST in found["device"]["display"]


@pytest.mark.parametrize("verdict", [Verdict.ERROR, Verdict.NOT_APPLICABLE])
def test_a_study_that_was_not_analysed_has_a_cancelled_report_with_the_reason(verdict: Verdict) -> None:
    found = resources(report(verdict))

    assert list(found) == ["DiagnosticReport"]
    assert found["DiagnosticReport"]["status"] == "cancelled"
    assert "The reason of it." in found["DiagnosticReport"]["conclusion"]


def test_what_is_taken_back_is_entered_in_error_and_concludes_nothing() -> None:
    made = read_report(report(), "The patient was corrected: PatientID.")

    bundle = json.loads(compose_bundle(made, EHR))

    found = [entry["resource"] for entry in bundle["entry"]]
    assert [resource["status"] for resource in found] == ["entered-in-error"] * 2
    assert "conclusionCode" not in found[0]
    assert found[0]["conclusion"].startswith("Withdrawn, do not use: The patient was corrected: PatientID.")


@pytest.mark.parametrize("qualification", ["RESEARCH", "PRODUCT"])
def test_it_is_for_research_until_the_operator_says_otherwise(qualification: str) -> None:
    conclusion = resources(report(qualification=qualification))["DiagnosticReport"]["conclusion"]

    assert ("not for diagnostic use" in conclusion) == (qualification == "RESEARCH")
