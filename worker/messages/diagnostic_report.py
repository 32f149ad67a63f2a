"""A result as FHIR: a transaction with a DiagnosticReport and the Observation that it rests on.

Source: FHIR R4, DiagnosticReport, Observation, Bundle (transaction); 3.1.0.7.1 conditional update, so that
the same result sent twice is one resource.
"""

import json
import re
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from fhir.resources.R4B.bundle import Bundle
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from lungnode import codes
from lungnode.identifiers import derive_uid
from lungnode.settings import FhirDestination
from worker.messages.told import Told, text

# Source: FHIR R4, 4.3.14 SNOMED CT, PS3.16 8 (Coding Schemes), FHIR R4 4.3.15 UCUM.
_SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
}
_SECTIONS: Final = "http://terminology.hl7.org/CodeSystem/v2-0074"
_CATEGORIES: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_IDENTIFIERS: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
_DICOM_UID: Final = "urn:dicom:uid"  # Source: FHIR R4, ImagingStudy.identifier
_OID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")
_DATE: Final = re.compile(r"\d{8}")
_TIME: Final = re.compile(r"\d{6}(\.\d+)?")


def compose_bundle(told: Told, destination: FhirDestination) -> str:
    """Return the transaction as JSON, valid by FHIR's models; the same arguments give the same text."""
    resources = [_report(told, destination)]
    if told.presence is not None:
        resources.append(_observation(told, destination))
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "timestamp": told.at.isoformat(),
        "entry": [_entry(told, resource) for resource in resources],
    }
    Bundle.model_validate(bundle)
    return json.dumps(bundle, ensure_ascii=False)


def _entry(told: Told, resource: dict[str, Any]) -> dict[str, Any]:
    kind, found = resource["resourceType"], _uid(told.tracking_uid)
    wanted = quote(f"{found['system']}|{found['value']}", safe=":|")
    request = {"method": "PUT", "url": f"{kind}?identifier={wanted}"}
    return {"fullUrl": _full_url(told, kind), "resource": resource, "request": request}


def _full_url(told: Told, kind: str) -> str:
    number = int(derive_uid("fhir", kind, told.tracking_uid).removeprefix("2.25."))
    return f"urn:uuid:{UUID(int=number)}"


def _common(told: Told, destination: FhirDestination) -> dict[str, Any]:
    """Return what both resources say: which study of which patient, and that nobody has confirmed it."""
    return {
        "identifier": [_uid(told.tracking_uid)],
        "status": _status(told),
        "subject": {"type": "Patient", **_patient(told.report, destination)},
        "issued": told.at.isoformat(),
        **_study_time(told),
        **_request(told, destination),
    }


def _status(told: Told) -> str:
    if told.withdrawn:
        return "entered-in-error"
    return "cancelled" if told.presence is None else "preliminary"


def _report(told: Told, destination: FhirDestination) -> dict[str, Any]:
    made = {
        "resourceType": "DiagnosticReport",
        **_common(told, destination),
        "category": [{"coding": [{"system": _SECTIONS, "code": "CT", "display": "CAT Scan"}]}],
        "code": {"text": "COVID-19 analysis of a chest CT"},
        "imagingStudy": [_study(told)],
        "conclusion": "\n".join((told.conclusion, *told.remarks)),
    }
    if told.reader:
        made["resultsInterpreter"] = [{"display": told.reader}]
    if told.presence is not None:
        made["result"] = [{"reference": _full_url(told, "Observation")}]
        if told.presence == codes.PRESENT and not told.withdrawn:
            made["conclusionCode"] = [_concept(codes.COVID_19)]
    return made


def _observation(told: Told, destination: FhirDestination) -> dict[str, Any]:
    numbers = ((codes.PROBABILITY, told.probability), (codes.THRESHOLD, told.threshold))
    imaging = {"system": _CATEGORIES, "code": "imaging", "display": "Imaging"}
    return {
        "resourceType": "Observation",
        **_common(told, destination),
        "category": [{"coding": [imaging]}],
        **({"performer": [{"display": told.reader}]} if told.reader else {}),
        "code": _concept(codes.COVID_19),
        "valueCodeableConcept": _concept(told.presence or codes.PRESENCE_UNDETERMINED),
        "bodySite": _concept(codes.LUNG),
        "derivedFrom": [_study(told)],
        "device": {"type": "Device", "display": _device(told.report)},
        "component": [
            {"code": _concept(name), "valueQuantity": _quantity(value)}
            for name, value in numbers
            if value is not None
        ],
        "note": [{"text": remark} for remark in told.remarks],
    }


def _quantity(value: object) -> dict[str, Any]:
    # The report has four decimals, which a float holds.
    return {"value": float(str(value)), "system": _SYSTEMS["UCUM"], "code": codes.RATIO.value}


def _concept(code: Code) -> dict[str, Any]:
    system = _SYSTEMS[code.scheme_designator]
    return {"coding": [{"system": system, "code": code.value, "display": code.meaning}]}


def _uid(uid: str) -> dict[str, str]:
    return {"system": _DICOM_UID, "value": f"urn:oid:{uid}"}


def _study(told: Told) -> dict[str, Any]:
    return {"type": "ImagingStudy", "identifier": _uid(str(told.report.StudyInstanceUID))}


def _device(report: Dataset) -> str:
    serial = text(report, "DeviceSerialNumber")
    return f"{text(report, 'Manufacturer')} {text(report, 'ManufacturerModelName')}, SHA-256 {serial}"


def _patient(report: Dataset, destination: FhirDestination) -> dict[str, Any]:
    """Return the patient's ID, in the system that the study names or the settings do."""
    patient_id = text(report, "PatientID")
    if not patient_id:
        return {"display": "The study names no patient ID."}
    qualifiers = (report.get("IssuerOfPatientIDQualifiersSequence") or [Dataset()])[0]
    issuer = text(report, "IssuerOfPatientID")
    oid = text(qualifiers, "UniversalEntityID", _OID)
    system = f"urn:oid:{oid}" if oid else destination.patient_system
    found: dict[str, Any] = {"type": {"coding": [{"system": _IDENTIFIERS, "code": "PI"}]}}
    if system:
        found["system"] = system
    found["value"] = patient_id
    if issuer:
        found["assigner"] = {"display": issuer}
    return {"identifier": found}


def _request(told: Told, destination: FhirDestination) -> dict[str, Any]:
    accession = text(told.request, "AccessionNumber") or text(told.report, "AccessionNumber")
    if not accession:
        return {}
    found: dict[str, Any] = {"type": {"coding": [{"system": _IDENTIFIERS, "code": "ACSN"}]}}
    if destination.accession_system:
        found["system"] = destination.accession_system
    found["value"] = accession
    return {"basedOn": [{"type": "ServiceRequest", "identifier": found}]}


def _study_time(told: Told) -> dict[str, str]:
    """Return when the study was made; FHIR wants a zone beside each time of day."""
    date, time = text(told.report, "StudyDate", _DATE), text(told.report, "StudyTime", _TIME)
    if not date:
        return {}
    day = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    if not time or not told.offset:
        return {"effectiveDateTime": day}
    zone = f"{told.offset[:3]}:{told.offset[3:]}"
    return {"effectiveDateTime": f"{day}T{time[:2]}:{time[2:4]}:{time[4:6]}{zone}"}
