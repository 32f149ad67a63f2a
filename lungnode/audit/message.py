"""An audit message as a value, as JSON for a row, and as XML. Source: PS3.15 A.5.1 and A.5.2."""

from base64 import b64encode
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import IntEnum, StrEnum
from ipaddress import ip_address
from typing import Any, Final, Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from pydantic import TypeAdapter

from lungnode.audit import codes
from lungnode.audit.codes import Code

PatientLevel = Literal["none", "id", "name"]


class Action(StrEnum):
    """EventActionCode."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """EventOutcomeIndicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True)
class Participant:
    """ActiveParticipant: a person or a program that took part."""

    user: str
    is_requestor: bool = False
    role: Code | None = None
    ae_titles: tuple[str, ...] = ()
    name: str = ""
    address: str = ""  # an IP address or a host name
    media: Code | None = None


@dataclass(frozen=True)
class Thing:
    """ParticipantObjectIdentification: what was dealt with."""

    type_code: str  # 1 person, 2 system object
    role: str  # 1 patient, 3 report, 13 security resource, ...
    id_type: Code
    id: str
    name: str = ""
    query: str = ""  # instead of a name: an encoded data set in base64
    details: dict[str, str] = field(default_factory=dict)
    sop_classes: dict[str, int] = field(default_factory=dict)  # number of instances by SOP Class UID
    anonymized: bool | None = None


@dataclass(frozen=True)
class Message:
    """AuditMessage, without the node that reports it."""

    event: Code
    action: Action
    at: datetime
    participants: tuple[Participant, ...]
    things: tuple[Thing, ...] = ()
    outcome: Outcome = Outcome.SUCCESS
    types: tuple[Code, ...] = ()
    description: str = ""  # of the outcome


@dataclass(frozen=True)
class Source:
    """The node that reports, and how much of patients it tells."""

    id: str
    site: str = ""
    patients: PatientLevel = "id"


_JSON: Final = TypeAdapter(Message)


def as_json(message: Message) -> dict[str, Any]:
    """Return a message as a row keeps it until it is encoded."""
    value: dict[str, Any] = _plain(asdict(message))
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {printable(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return printable(value) if isinstance(value, str) else value


def from_json(value: dict[str, Any]) -> Message:
    """Return the message that `as_json` made `value` of."""
    return _JSON.validate_python(value)


def study(
    study_instance_uid: str, sop_classes: dict[str, int] | None = None, *, anonymized: bool | None = None
) -> Thing:
    """Return a study, with the number of its instances by SOP class where that is known."""
    kind = codes.STUDY_INSTANCE_UID
    return Thing("2", "3", kind, study_instance_uid, sop_classes=sop_classes or {}, anonymized=anonymized)


def patient(patient_id: str, name: str = "") -> Thing:
    """Return a patient."""
    return Thing("1", "1", codes.PATIENT_NUMBER, patient_id, name)


def encode(message: Message, source: Source) -> str:
    """Return the XML of a message, on one line, with as much of patients as `source` tells."""
    root = Element("AuditMessage")
    _add_event(root, message)
    for participant in message.participants:
        _add_participant(root, participant)
    site = {"AuditEnterpriseSiteID": source.site} if source.site else {}
    reporter = SubElement(root, "AuditSourceIdentification", _clean({**site, "AuditSourceID": source.id}))
    # Source: PS3.15 A.5.1.2.1, 4: application server process tier in a multi-tier system.
    SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})
    for thing in message.things:
        told = _as_far_as(source.patients, thing)
        if told is not None:
            _add_thing(root, told)
    return tostring(root, encoding="unicode")


def _as_far_as(level: PatientLevel, thing: Thing) -> Thing | None:
    """Return what is told of a thing: a query may ask for a patient, so it is one's identification, too."""
    if level == "none":
        return None if _is_patient(thing) else replace(thing, query="")
    return replace(thing, name="") if level == "id" and _is_patient(thing) else thing


def _add_event(root: Element, message: Message) -> None:
    told = {
        "EventActionCode": message.action.value,
        "EventDateTime": message.at.isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": str(message.outcome.value),
    }
    event = SubElement(root, "EventIdentification", told)
    _add_code(event, "EventID", message.event)
    for kind in message.types:
        _add_code(event, "EventTypeCode", kind)
    if message.description:
        SubElement(event, "EventOutcomeDescription").text = printable(message.description)


def _add_participant(root: Element, participant: Participant) -> None:
    told = {"UserID": participant.user}
    if participant.ae_titles:  # Source: PS3.15 A.5.2.2
        told["AlternativeUserID"] = f"AETITLES={';'.join(participant.ae_titles)}"
    if participant.name:
        told["UserName"] = participant.name
    told["UserIsRequestor"] = "true" if participant.is_requestor else "false"
    if participant.address:
        told["NetworkAccessPointID"] = participant.address
        told["NetworkAccessPointTypeCode"] = "2" if _is_ip_address(participant.address) else "1"
    element = SubElement(root, "ActiveParticipant", _clean(told))
    if participant.role is not None:
        _add_code(element, "RoleIDCode", participant.role)
    if participant.media is not None:
        _add_code(SubElement(element, "MediaIdentifier"), "MediaType", participant.media)


def _add_thing(root: Element, thing: Thing) -> None:
    told = {
        "ParticipantObjectID": thing.id,
        "ParticipantObjectTypeCode": thing.type_code,
        "ParticipantObjectTypeCodeRole": thing.role,
    }
    element = SubElement(root, "ParticipantObjectIdentification", _clean(told))
    _add_code(element, "ParticipantObjectIDTypeCode", thing.id_type)
    if thing.query:
        SubElement(element, "ParticipantObjectQuery").text = thing.query
    else:
        name = thing.name if thing.name or _is_patient(thing) else thing.id
        SubElement(element, "ParticipantObjectName").text = printable(name)
    for kind, value in thing.details.items():
        pair = {"type": kind, "value": b64encode(value.encode("utf-8", "replace")).decode()}
        SubElement(element, "ParticipantObjectDetail", _clean(pair))
    if thing.sop_classes or thing.anonymized is not None:
        _add_description(element, thing)


def _add_description(element: Element, thing: Thing) -> None:
    description = SubElement(element, "ParticipantObjectDescription")
    for uid, count in thing.sop_classes.items():
        SubElement(description, "SOPClass", _clean({"UID": uid, "NumberOfInstances": str(count)}))
    if thing.anonymized is not None:
        SubElement(description, "Anonymized").text = "true" if thing.anonymized else "false"


def _add_code(element: Element, name: str, code: Code) -> None:
    told = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    SubElement(element, name, _clean(told))


def _is_patient(thing: Thing) -> bool:
    return thing.id_type == codes.PATIENT_NUMBER


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _clean(attributes: dict[str, str]) -> dict[str, str]:
    return {name: printable(value) for name, value in attributes.items()}


def printable(text: str) -> str:
    """Replace what XML and syslog cannot carry: control characters, lone surrogates."""
    return "".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in text)
