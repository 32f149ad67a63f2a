"""A patient that changes after the study has come: in later instances, or by the command line."""

from typing import Any

import pytest
from sqlalchemy import select

from db.corrections import Said, correct
from db.intake import serialise
from db.models import Analysis, AuditEvent, Correction, Delivery, Instance, Study
from db.session import transaction
from lungnode.settings import Rule
from tests.retaining import analyse, settle
from tests.spooling import STUDY, ClerkNode, ct, slices

MERGED = {"PatientID": "4712", "PatientName": "Doe^Joan"}


@pytest.fixture
def node(clerk_node: ClerkNode) -> ClerkNode:
    """A settled study, on SQLite and on PostgreSQL."""
    settle(clerk_node)
    return clerk_node


@pytest.fixture
def local(local_node: ClerkNode) -> ClerkNode:
    """The same on SQLite alone."""
    settle(local_node)
    return local_node


def say(node: ClerkNode, attributes: dict[str, str]) -> bool:
    with transaction(node.engine) as session:
        serialise(session)
        study = session.scalars(select(Study)).one()
        return correct(session, node.settings, study, Said(attributes, "the account test"), node.clock())


def revisions(node: ClerkNode) -> list[tuple[int, str, str]]:
    return [(row.revision, row.state, row.withdrawn) for row in node.rows(Analysis)]


WHY = "The patient was corrected: PatientID, PatientName."


def test_a_correction_changes_the_index_and_makes_a_new_revision_of_the_same_files(node: ClerkNode) -> None:
    before = node.archived()

    assert say(node, MERGED)
    assert len(node.rounds_after(200)) == 1

    study = node.study()
    assert (study.patient_id, study.patient_name, study.patient_key) == ("4712", "Doe^Joan", "doe joan")
    assert (study.state, study.revision) == ("complete", 2)
    assert revisions(node) == [(1, "done", WHY), (2, "queued", "")]
    assert node.archived() == before
    (row,) = node.rows(Correction)
    assert (row.revision, row.source) == (2, "the account test")
    assert (row.attributes, row.replaced) == (MERGED, {"PatientID": "4711", "PatientName": "Doe^Jane"})


def test_what_is_said_already_changes_nothing(local: ClerkNode) -> None:
    assert not say(local, {"PatientID": "4711"})

    assert local.rounds_after(200) == []
    assert local.rows(Correction) == []


def test_the_audit_trail_names_what_was_corrected_and_no_patient(local: ClerkNode) -> None:
    say(local, MERGED)

    event = local.rows(AuditEvent)[-1]
    assert (event.action, event.subject) == ("study corrected", STUDY)
    assert event.details == {"attributes": ["PatientID", "PatientName"]}


def test_a_result_that_waits_to_be_sent_is_not_sent_any_more(node: ClerkNode) -> None:
    with transaction(node.engine) as session:
        session.scalars(select(Delivery)).one().state = "pending"

    say(node, MERGED)

    (row,) = node.rows(Delivery)
    assert (row.state, row.reason, row.finished_at) == ("withdrawn", WHY, node.clock())


def test_an_archived_study_that_was_never_analysed_changes_its_index_alone(local_node: ClerkNode) -> None:
    local_node.restart(rules=(Rule(name="keep", analyse=False),))
    local_node.receive(*slices((1, 2, 3)))
    local_node.rounds_after(200)

    say(local_node, {"PatientID": "4712"})
    local_node.rounds_after(200)

    study = local_node.study()
    assert (study.patient_id, study.revision, study.state) == ("4712", 1, "complete")


def test_a_study_that_comes_again_with_another_patient_is_corrected_once_and_its_files_stay(
    node: ClerkNode,
) -> None:
    before = node.archived()

    # As a PACS sends after a merge: the same instances, other identifiers.
    node.receive(*slices((1, 2, 3), PatientID="4712", PatientName="Doe^Joan"), name="merged")
    assert len(node.rounds_after(200)) == 1

    assert node.archived() == before
    assert {row.disposition for row in node.rows(Instance)} == {"archived"}
    assert node.study().patient_id == "4712"
    (row,) = node.rows(Correction)
    assert row.source == f"instance {STUDY}.1.1 from SCANNER"
    assert row.attributes == MERGED
    assert [state for _, state, _ in revisions(node)] == ["done", "queued"]


def test_a_late_slice_with_another_name_corrects_the_study_with_its_revision(local: ClerkNode) -> None:
    local.receive(ct(4, PatientName="Roe^Jane", IssuerOfPatientID="HOSPITAL"), name="late")
    local.rounds_after(200)

    study = local.study()
    assert (study.patient_name, study.patient_id, study.revision) == ("Roe^Jane", "4711", 2)
    (row,) = local.rows(Correction)
    assert (row.revision, row.attributes) == (2, {"PatientName": "Roe^Jane"})
    assert revisions(local)[0] == (1, "done", "The patient was corrected: PatientName.")


@pytest.mark.parametrize(
    "same",
    [
        {"PatientName": "DOE^JANE^^^"},
        {"PatientName": "Doe^Jane==", "PatientID": " 4711 "},
        {"PatientName": None, "PatientID": ""},
        {"PatientBirthDate": "", "PatientSex": None},
    ],
    ids=["case and carets", "blanks", "empty", "absent"],
)
def test_another_way_to_write_the_same_is_no_correction(local: ClerkNode, same: dict[str, Any]) -> None:
    local.receive(ct(4, **same), name="late")

    assert local.rows(Correction) == []


def test_who_still_sends_the_old_patient_does_not_undo_a_correction(node: ClerkNode) -> None:
    say(node, MERGED)
    node.rounds_after(200)
    analyse(node)

    node.receive(ct(4), *slices((1, 2, 3)), name="old")
    node.rounds_after(200)

    assert node.study().patient_id == "4712"
    assert len(node.rows(Correction)) == 1
    assert [row.withdrawn for row in node.rows(Analysis)] == [WHY, "", ""]


def test_two_senders_with_two_identifiers_make_one_correction_whoever_is_last(local: ClerkNode) -> None:
    for number, patient in enumerate(("PACS-4711", "4711", "PACS-4711", "4711"), 4):
        local.receive(ct(number, PatientID=patient), name=f"s{number}")
        local.rounds_after(200)

    assert [row.attributes["PatientID"] for row in local.rows(Correction)] == ["PACS-4711"]


def test_a_rule_may_disbelieve_senders(local_node: ClerkNode) -> None:
    local_node.restart(rules=(Rule(name="scanners", calling_ae_title="SCAN*", corrections=False),))
    settle(local_node)

    local_node.receive(ct(4, PatientID="4712"), name="late")

    assert (local_node.study().patient_id, local_node.rows(Correction)) == ("4711", [])


def test_a_birth_date_that_becomes_known_is_a_correction(local: ClerkNode) -> None:
    local.receive(ct(4, PatientBirthDate="19700101"), name="late")

    (row,) = local.rows(Correction)
    assert (row.attributes, row.replaced) == ({"PatientBirthDate": "19700101"}, {"PatientBirthDate": ""})


def test_a_correction_while_a_study_is_being_received_holds_from_its_first_revision(
    local_node: ClerkNode,
) -> None:
    local_node.receive(*slices((1, 2)), ct(3, PatientID="4712"))

    local_node.rounds_after(200)

    assert local_node.study().patient_id == "4712"
    assert [(row.revision, row.withdrawn) for row in local_node.rows(Analysis)] == [(1, "")]
    assert [row.revision for row in local_node.rows(Correction)] == [1]
