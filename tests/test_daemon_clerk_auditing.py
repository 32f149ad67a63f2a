from typing import Any
from xml.etree.ElementTree import Element, fromstring

from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from daemon.clerk.auditing import Auditor
from db.models import AuditEvent
from tests.spooling import STUDY, ClerkNode, ct, slices

OTHER = "1.2.840.99999.2"


def events(node: ClerkNode) -> list[AuditEvent]:
    """What is in the trail, encoded."""
    auditor = Auditor(node.engine, node.settings)
    auditor.take_alerts()
    auditor.round(node.clock)
    return sorted(node.rows(AuditEvent), key=lambda event: event.id)


def xml(event: AuditEvent) -> Element:
    return fromstring(event.message)  # noqa: S314 - it is our own


def counted(event: AuditEvent) -> dict[str, int]:
    """The number of instances by SOP class, as the message tells."""
    found = xml(event).iter("SOPClass")
    return {each.attrib["UID"]: int(each.attrib["NumberOfInstances"]) for each in found}


def told(event: AuditEvent) -> dict[str, Any]:
    return {"action": event.action, "subject": event.subject, "outcome": event.outcome, **event.details}


def test_an_association_is_one_event_for_each_study_it_brought(clerk_node: ClerkNode) -> None:
    capture = ct(9, SOPClassUID=SecondaryCaptureImageStorage)
    clerk_node.receive(*slices(range(1, 4)), capture, *slices((1, 2), study=OTHER))

    first, second = events(clerk_node)

    assert told(first) == {
        "action": "study received",
        "subject": STUDY,
        "outcome": 0,
        "association": "a1",
        "ended": "released",
        "instances": 4,
    }
    assert counted(first) == {CTImageStorage: 3, SecondaryCaptureImageStorage: 1}
    assert (second.subject, counted(second)) == (OTHER, {CTImageStorage: 2})
    assert first.actor == "SCANNER@192.0.2.7"
    assert first.at == clerk_node.clock()
    sender, receiver = xml(first).findall("ActiveParticipant")
    assert sender.attrib["NetworkAccessPointID"] == "192.0.2.7"
    assert receiver.attrib["AlternativeUserID"] == "AETITLES=LUNGNODE"


def test_while_an_association_is_open_nothing_is_told_of_it(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct())
    clerk_node.clerk.round()

    assert events(clerk_node) == []

    sender.release()
    clerk_node.clerk.round()
    assert len(events(clerk_node)) == 1


def test_what_was_there_already_is_read_not_created(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices((1, 2)))
    clerk_node.receive(*slices((1, 2)), name="a2")

    _, again = events(clerk_node)

    assert (again.action, again.details["instances"]) == ("study received again", 0)
    identification = xml(again).findall("EventIdentification")[0]
    assert identification.attrib["EventActionCode"] == "R"


def test_an_association_that_was_lost_is_a_minor_failure(clerk_node: ClerkNode) -> None:
    clerk_node.sender().send(ct()).lose()
    clerk_node.clerk.round()

    (event,) = events(clerk_node)

    assert (event.outcome, event.details["ended"], event.details["instances"]) == (4, "lost", 1)
    assert "The association was lost." in event.message


def test_files_that_were_set_aside_are_an_event_of_their_own(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct())
    sender.put(lambda path: path.write_text("no DICOM"))
    sender.release()
    clerk_node.clerk.round()

    _, aside = events(clerk_node)

    assert (aside.action, aside.outcome, aside.details["files"]) == ("files quarantined", 4, 1)


def test_a_clerk_that_died_before_it_removed_the_folder_tells_nothing_twice(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct())
    sender.release()
    clerk_node.clerk.round()
    sender.folder.mkdir()
    (sender.folder / "association.json").write_text("{}")
    (sender.folder / "ended.json").write_text('{"outcome": "released"}')

    clerk_node.restart()
    clerk_node.clerk.round()

    assert not sender.folder.exists()
    assert len(events(clerk_node)) == 1
