"""A result as HL7 message ORU^R01.

Source: HL7 2.5.1, 7.3.1 ORU^R01; 2.7 escape sequences; IHE RAD TF-2 4.4, where an order's OBR-18 and OBR-19
are Accession Number and Requested Procedure ID.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from hl7apy.core import Group, Message, Segment
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from lungnode import codes
from lungnode.identifiers import short_identifier
from lungnode.settings import Hl7Destination
from worker.messages.told import Told, text

_ESCAPES: Final = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")
_DATE: Final = re.compile(r"\d{4}(\d{2}(\d{2})?)?")
_TIME: Final = re.compile(r"(\d{2}(?:\d{2}(?:\d{2})?)?)(?:\.\d+)?")
_NAMESPACE: Final = "LUNGNODE"
# Source: HL7 2.5.1 tables 0123 and 0085: of the whole, and of each observation.
_PRELIMINARY, _UNAVAILABLE, _WRONG = "P", "X", "W"
_NO_NAME: Final = "^^^^^^U"  # Source: HL7 2.5.1 table 0200, Unspecified
_CAT_SCAN: Final = "CT"  # Source: HL7 2.5.1 table 0074


def compose_oru(told: Told, destination: Hl7Destination, control_id: str) -> str:
    """Return the message; the same arguments give the same message."""
    message = Message("ORU_R01", version="2.5.1")
    _set_header(message.msh, told, destination, control_id)
    result = message.add_group("ORU_R01_PATIENT_RESULT")
    _set_patient(result.add_group("ORU_R01_PATIENT").add_segment("PID"), told.report)
    order = result.add_group("ORU_R01_ORDER_OBSERVATION")
    _set_request(order.add_segment("OBR"), told, destination.service)
    _add_observations(order, told)
    return str(message.to_er7())


def escaped(value: str) -> str:
    """Return text as it stands in a field; control characters become spaces."""
    return _CONTROL.sub(" ", value).strip().translate(_ESCAPES)


def _put(segment: Segment, number: int, *repetitions: str) -> None:
    for value in filter(None, repetitions):
        segment.add_field(f"{segment.name}_{number}").value = value


def _joined(separator: str, parts: Iterable[str]) -> str:
    """Join components or subcomponents, without those at the end that are empty."""
    return separator.join(escaped(part) for part in parts).rstrip(separator)


def _coded(code: Code) -> str:
    return _joined("^", (code.value, code.meaning, code.scheme_designator))


def _set_header(msh: Segment, told: Told, destination: Hl7Destination, control_id: str) -> None:
    fields = {
        3: destination.sending_application,
        4: destination.sending_facility,
        5: destination.receiving_application,
        6: destination.receiving_facility,
    }
    for number, value in fields.items():
        _put(msh, number, escaped(value))
    msh.msh_7 = told.at.strftime("%Y%m%d%H%M%S%z")
    msh.msh_9 = "ORU^R01^ORU_R01"
    msh.msh_10 = control_id
    msh.msh_11 = destination.processing_id
    msh.msh_18 = "UNICODE UTF-8"


def _set_patient(pid: Segment, report: Dataset) -> None:
    qualifiers = (report.get("IssuerOfPatientIDQualifiersSequence") or [Dataset()])[0]
    issuer = _joined(
        "&",
        (
            text(report, "IssuerOfPatientID"),
            text(qualifiers, "UniversalEntityID"),
            text(qualifiers, "UniversalEntityIDType"),
        ),
    )
    patient_id = escaped(text(report, "PatientID"))
    _put(pid, 1, "1")
    _put(pid, 3, f"{patient_id}^^^{issuer}^PI" if patient_id else "")
    _put(pid, 5, *(_names(text(report, "PatientName")) or [_NO_NAME]))
    _put(pid, 7, text(report, "PatientBirthDate", _DATE))
    _put(pid, 8, escaped(text(report, "PatientSex")))


def _names(name: str) -> list[str]:
    """Return a name in each of its scripts. Source: PS3.5 6.2.1.1; HL7 2.5.1 table 0465."""
    groups = zip(name.split("="), ("A", "I", "P"), strict=False)
    return [_name(group, script) for group, script in groups if group.strip("^ ")]


def _name(group: str, script: str) -> str:
    family, given, middle, prefix, suffix = (*group.split("^"), "", "", "", "", "")[:5]
    return _joined("^", (family, given, middle, suffix, prefix, "", "", script))


def _set_request(obr: Segment, told: Told, service: str) -> None:
    report, request = told.report, told.request
    accession = text(request, "AccessionNumber") or text(report, "AccessionNumber")
    fields = {
        1: "1",
        2: escaped(text(request, "PlacerOrderNumberImagingServiceRequest")),
        # Ours, the same in each revision: a later one takes its place, never that of a radiologist's report.
        3: f"{short_identifier(told.tracking_uid)}^{_NAMESPACE}",
        4: service,
        7: _study_time(told),
        18: escaped(accession),
        19: escaped(text(request, "RequestedProcedureID")),
        22: told.at.strftime("%Y%m%d%H%M%S%z"),
        24: _CAT_SCAN,
        25: _UNAVAILABLE if told.withdrawn else _status(told),
    }
    for number, value in fields.items():
        _put(obr, number, value)


def _study_time(told: Told) -> str:
    date = text(told.report, "StudyDate", _DATE)
    time = _TIME.fullmatch(text(told.report, "StudyTime"))
    return f"{date}{time[1]}{told.offset}" if len(date) == len("YYYYMMDD") and time else date


def _status(told: Told) -> str:
    if told.withdrawn:
        return _WRONG
    return _UNAVAILABLE if told.presence is None else _PRELIMINARY


def _add_observations(order: Group, told: Told) -> None:
    report, one = told.report, _joined("^", (codes.RATIO.value, codes.RATIO.meaning, "UCUM"))
    finding = _coded(codes.COVID_19)
    rows = [
        ("ST", _coded(codes.STUDY_INSTANCE_UID), [str(report.StudyInstanceUID)], ""),
        ("ST", "^SR Instance UID", [str(report.SOPInstanceUID)], ""),
        ("CWE", finding, [_coded(told.presence)] if told.presence else [], ""),
        ("NM", _coded(codes.PROBABILITY), _numbers(told.probability), one),
        ("NM", _coded(codes.THRESHOLD), _numbers(told.threshold), one),
        ("TX", _coded(codes.CONCLUSION), [escaped(told.conclusion)], ""),
        ("TX", _coded(codes.COMMENT), [escaped(remark) for remark in told.remarks], ""),
    ]
    number = 0
    for kind, name, values, units in rows:
        for sub_id, value in enumerate(values, start=1):
            number += 1
            obx = order.add_group("ORU_R01_OBSERVATION").add_segment("OBX")
            numbered = str(sub_id) if len(values) > 1 else ""
            fields = (str(number), kind, name, numbered, value, units)
            _set_observation(obx, fields, told)
            if name == finding:  # OBX-16, Responsible Observer
                _put(obx, 16, escaped(told.reader))


def _numbers(value: object) -> list[str]:
    return [] if value is None else [str(value)]


def _set_observation(obx: Segment, fields: Sequence[str], told: Told) -> None:
    for number, value in enumerate(fields, start=1):
        _put(obx, number, value)
    _put(obx, 11, _status(told))
    _put(obx, 14, told.at.strftime("%Y%m%d%H%M%S%z"))
