"""Messages against the schema of PS3.15 A.5.1 and the tables of A.5.3."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, fromstring

import pytest

from lungnode.audit import codes, events
from lungnode.audit.events import EVENTS, About, Happening, Process, compose
from lungnode.audit.message import (
    Message,
    Outcome,
    Participant,
    Source,
    Thing,
    as_json,
    encode,
    from_json,
)
from lungnode.audit.message import patient as patient_thing
from lungnode.audit.message import study as study_thing

NOON: Final = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
SCHEMA: Final = Path(__file__).parent / "audit_message.rng"
US: Final = Source("LUNGNODE", "Hospital", "name")
DCM_STUDY, PATIENT, NODE, URI = "110180", "2", "110182", "12"

needs_xmllint = pytest.mark.skipif(
    shutil.which("xmllint") is None, reason="xmllint is absent: apt install libxml2-utils"
)


@dataclass(frozen=True)
class Table:
    """What PS3.15 A.5.3 says of one event: codes, how many of whom, and of what."""

    actions: str
    types: frozenset[str] = frozenset()  # EventTypeCode is mandatory, one of these
    roles: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # "": any other participant
    things: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # by ParticipantObjectIDTypeCode


MANY: Final = 1000
# Source: PS3.15, the table of each section.
TABLES: Final = {
    "110100": Table("E", frozenset({"110120", "110121"}), {"110150": (1, 1), "110151": (0, MANY)}),  # A.5.3.1
    "110101": Table("R", roles={"": (1, 2)}, things={URI: (1, 1)}),  # A.5.3.2
    "110103": Table("CRUD", roles={"": (1, 2)}, things={DCM_STUDY: (1, MANY), PATIENT: (1, 1)}),  # A.5.3.6
    "110104": Table(  # A.5.3.7
        "CRU",
        roles={"110153": (1, 1), "110152": (1, 1), "": (0, MANY)},
        things={DCM_STUDY: (1, MANY), PATIENT: (1, 1)},
    ),
    "110105": Table("D", roles={"": (1, 2)}, things={DCM_STUDY: (1, MANY), PATIENT: (1, 1)}),  # A.5.3.8
    "110106": Table(  # A.5.3.4
        "R",
        roles={"110152": (0, MANY), "110153": (1, 2), "110154": (1, 1)},
        things={DCM_STUDY: (0, MANY), PATIENT: (1, MANY)},
    ),
    "110111": Table("CRUD", roles={"": (1, 2)}, things={DCM_STUDY: (0, MANY), PATIENT: (1, 1)}),  # A.5.3.15
    "110112": Table(  # A.5.3.10
        "E", roles={"110153": (1, 1), "110152": (1, 1), "": (0, MANY)}, things={"110181": (1, 1)}
    ),
    "110113": Table(  # A.5.3.11; values of CID 403
        "E",
        frozenset({"110126", "110131", "110137"}),
        {"": (1, MANY)},
        {NODE: (0, MANY), URI: (0, MANY), "11": (0, MANY), "subject": (0, MANY)},
    ),
    "110114": Table("E", frozenset({"110122", "110123"}), {"": (1, 2)}),  # A.5.3.12
}
# Type and role of each kind of participant object, the same in every table that has it.
KINDS: Final = {DCM_STUDY: ("2", "3"), PATIENT: ("1", "1"), URI: ("2", "13"), "110181": ("2", "3")}


def message_of(action: str) -> Message:
    """A message as the program that does `action` makes it."""
    event, by = EVENTS[action], events.person("alice", "10.0.0.9")
    others: tuple[Participant, ...] = ()
    things: tuple[Thing, ...] = ()
    if event.about is About.STUDY:
        things = (study_thing("1.2.3", {"1.2.840.10008.5.1.4.1.1.2": 148}), patient_thing("4711", "Doe^Jane"))
    if event.code in (codes.INSTANCES_TRANSFERRED, codes.QUERY):
        by = events.peer("CT1", "10.0.0.1", codes.SOURCE, is_requestor=True)
        others = (events.peer("LUNGNODE", "node", codes.DESTINATION),)
    if event.code == codes.EXPORT:
        by, others = events.program(Process("studies export"), codes.SOURCE), (events.media("/srv/out"),)
    if event.code == codes.APPLICATION_ACTIVITY:
        by = events.program(Process("clerk"), codes.APPLICATION)
    if event.code == codes.QUERY:
        details = {"TransferSyntax": "1.2.840.10008.1.2"}
        uid = codes.SOP_CLASS_UID
        things = (Thing("2", "3", uid, "1.2.840.10008.5.1.4.1.2.2.1", query="CAA=", details=details),)
    return compose(Happening(action, "10.0.0.1", NOON, by), things, others)


def validated(message: Message, source: Source, folder: Path) -> Element:
    """The message as XML, which must fit the schema."""
    file = folder / "message.xml"
    file.write_text(encode(message, source), encoding="utf-8")
    command = ["xmllint", "--noout", "--relaxng", str(SCHEMA), str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return fromstring(file.read_text(encoding="utf-8"))  # noqa: S314 - it is our own


def counted(found: Iterator[str], allowed: Mapping[str, tuple[int, int]]) -> None:
    names = [name if name in allowed else "" for name in found]
    assert set(names) <= allowed.keys()
    for name, (least, most) in allowed.items():
        assert least <= names.count(name) <= most, (name, names)


@needs_xmllint
@pytest.mark.parametrize("action", sorted(EVENTS))
def test_the_message_of_an_action_is_what_ps3_15_says(action: str, tmp_path: Path) -> None:
    root = validated(message_of(action), US, tmp_path)

    event = root.find("EventIdentification")
    assert event is not None
    table = TABLES[event.findall("EventID")[0].attrib["csd-code"]]
    assert event.attrib["EventActionCode"] in table.actions
    types = {code.attrib["csd-code"] for code in event.findall("EventTypeCode")}
    assert types <= table.types
    assert bool(types) == bool(table.types)
    roles = (_role(participant) for participant in root.findall("ActiveParticipant"))
    counted(roles, table.roles)
    things = root.findall("ParticipantObjectIdentification")
    counted((_kind(thing) for thing in things), table.things)
    for thing in things:
        type_and_role = (
            thing.attrib["ParticipantObjectTypeCode"],
            thing.attrib["ParticipantObjectTypeCodeRole"],
        )
        assert type_and_role == KINDS.get(_kind(thing), ("2", "13"))
    requestors = [
        each for each in root.findall("ActiveParticipant") if each.attrib["UserIsRequestor"] == "true"
    ]
    assert len(requestors) <= 1


def _role(participant: Element) -> str:
    code = participant.find("RoleIDCode")
    return "" if code is None else code.attrib["csd-code"]


def _kind(thing: Element) -> str:
    return thing.findall("ParticipantObjectIDTypeCode")[0].attrib["csd-code"]


@needs_xmllint
def test_an_action_that_ps3_15_does_not_know_has_a_code_of_our_own(tmp_path: Path) -> None:
    happened = Happening("labels imported", "ab12", NOON, events.person("alice", "10.0.0.9"))

    root = validated(compose(happened, ()), US, tmp_path)

    code = root.findall("EventIdentification/EventID")[0].attrib
    assert (code["csd-code"], code["codeSystemName"]) == ("labels-imported", "99LUNGNODE")


@needs_xmllint
@pytest.mark.parametrize(("level", "told"), [("none", ()), ("id", ("4711",)), ("name", ("4711", "Doe^Jane"))])
def test_a_patient_is_told_as_far_as_the_setting_says(
    level: str, told: tuple[str, ...], tmp_path: Path
) -> None:
    source = Source("LUNGNODE", patients=level)  # type: ignore[arg-type]

    root = validated(message_of("study received"), source, tmp_path)

    text = encode(message_of("study received"), source)
    assert [part for part in ("4711", "Doe^Jane") if part in text] == list(told)
    assert len(root.findall("ParticipantObjectIdentification")) == 1 + bool(told)


def test_a_query_is_not_told_where_nothing_of_a_patient_is() -> None:
    text = encode(message_of("peer queried"), Source("LUNGNODE", patients="none"))

    assert "ParticipantObjectQuery" not in text


@needs_xmllint
def test_whatever_a_peer_calls_itself_the_message_is_xml_on_one_line(tmp_path: Path) -> None:
    hostile = '<b>&"\n\r\0\x1b[31m\udcff￾'
    by = events.peer(hostile, hostile, codes.SOURCE)
    happened = Happening("association rejected", hostile, NOON, by, Outcome.MINOR_FAILURE, hostile)

    root = validated(compose(happened, ()), US, tmp_path)

    assert "\n" not in encode(compose(happened, ()), US)
    assert not re.search(r"[\0-\x1f]", "".join(root.itertext()))
    assert root.findall("ActiveParticipant")[0].attrib["AlternativeUserID"].startswith('AETITLES=<b>&"')


@pytest.mark.parametrize("action", sorted(EVENTS))
def test_a_message_comes_back_from_json(action: str) -> None:
    message = message_of(action)

    assert from_json(json.loads(json.dumps(as_json(message)))) == message
