"""Rejection notes (IHE IOCM) withdraw what they name, whenever they come."""

import pytest
from pydicom import Dataset

from daemon.clerk.rejections import read_rejection
from db.models import Analysis, AuditEvent, Delivery, Instance, Withdrawal
from db.queries import get_study, list_instances
from db.session import transaction
from lungnode.settings import DicomDestination, Rule
from tests.rejecting import TITLES, note
from tests.retaining import analyse, files, settle, sweep
from tests.spooling import STUDY, ClerkNode, ct, slices, write

WRONG = ("113001", "113037", "113038")
PACS = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104, rejection_notes=True)


@pytest.fixture
def node(clerk_node: ClerkNode) -> ClerkNode:
    """A settled study, on SQLite and on PostgreSQL."""
    settle(clerk_node, count=7)
    return clerk_node


@pytest.fixture
def local(local_node: ClerkNode) -> ClerkNode:
    """The same on SQLite alone."""
    settle(local_node, count=7)
    return local_node


def dispositions(node: ClerkNode) -> dict[str, str]:
    """Of the slices, by the last number of their UIDs."""
    rows = node.rows(Instance)
    return {r.sop_instance_uid.rpartition(".")[2]: r.disposition for r in rows if r.modality == "CT"}


@pytest.mark.parametrize("code", WRONG)
def test_rejected_slices_are_withdrawn_and_the_rest_is_analysed_anew(node: ClerkNode, code: str) -> None:
    node.receive(note(code, slices((3, 7))), name="note")
    assert len(node.rounds_after(200)) == 1

    assert {number for number, said in dispositions(node).items() if said == "withdrawn"} == {"3", "7"}
    study, analyses = node.study(), node.rows(Analysis)
    assert (study.state, study.revision) == ("complete", 2)
    assert study.completeness == "incomplete: 1 gap; 2 slices withdrawn"
    assert analyses[0].withdrawn == f"Slices were withdrawn by a rejection note: {TITLES[code]}."
    assert (analyses[1].revision, analyses[1].state, analyses[1].withdrawn) == (2, "queued", "")
    with transaction(node.engine) as session:
        used = list_instances(session, get_study(session, STUDY))
        assert {row.sop_instance_uid for row in used} & {f"{STUDY}.1.3", f"{STUDY}.1.7"} == set()
    event = next(event for event in node.rows(AuditEvent) if event.action == "instances withdrawn")
    assert event.details == {"titles": [code], "instances": 2}


def test_the_withdrawn_files_stay_and_say_why(local: ClerkNode) -> None:
    before = local.archived()
    local.receive(note("113001", [ct(2)]), name="note")

    assert before.items() <= local.archived().items()
    (row,) = (row for row in local.rows(Instance) if row.disposition == "withdrawn")
    assert row.note == f"Withdrawn by rejection note {STUDY}.77.1: Rejected for Quality Reasons."


def test_a_study_of_which_everything_is_rejected_is_withdrawn_and_not_analysed(local: ClerkNode) -> None:
    local.receive(note("113037", slices(range(1, 8))), name="note")
    assert local.rounds_after(200) == []

    study = local.study()
    assert (study.state, study.revision) == ("withdrawn", 2)
    assert [row.revision for row in local.rows(Analysis)] == [1]
    local.receive(*slices((8, 9, 10)), name="right")
    assert len(local.rounds_after(200)) == 1
    assert (local.study().state, local.study().revision) == ("complete", 3)


@pytest.mark.parametrize("again", [1, 2], ids=["once", "twice"])
def test_a_note_that_comes_before_its_slices_withdraws_them_when_they_come(
    clerk_node: ClerkNode, again: int
) -> None:
    for number in range(again):
        clerk_node.receive(note("113001", slices((1, 2)), number=number + 1), name=f"n{number}")
    clerk_node.receive(*slices((1, 2, 3)), name="slices")

    assert dispositions(clerk_node) == {"1": "withdrawn", "2": "withdrawn", "3": "archived"}


def test_slices_and_their_note_in_one_association_are_judged_together(local_node: ClerkNode) -> None:
    local_node.receive(*slices(range(1, 6)), note("113001", [ct(5)]))
    local_node.rounds_after(200)

    assert [(row.revision, row.completeness) for row in local_node.rows(Analysis)] == [
        (1, "quiet: no gaps; 1 slice withdrawn")
    ]


def test_a_withdrawn_slice_that_is_sent_again_stays_withdrawn(local: ClerkNode) -> None:
    local.receive(note("113001", [ct(2)]), name="note")
    local.receive(ct(2), name="again")

    assert dispositions(local)["2"] == "withdrawn"


def test_expired_retention_withdraws_without_a_new_revision_and_wishes_the_study_gone(
    local: ClerkNode,
) -> None:
    local.receive(note("113039", slices(range(1, 8))), name="note")
    assert local.rounds_after(200) == []

    study = local.study()
    assert (study.state, study.revision) == ("withdrawn", 1)
    assert study.expired == f"rejection note {STUDY}.77.1: Data Retention Policy Expired"
    assert [row.withdrawn for row in local.rows(Analysis)] == [""]
    assert sweep(local, 0) == [STUDY]
    assert files(local) == set()
    assert local.study().files_deleted_by == study.expired


def test_expired_retention_of_some_slices_wishes_nothing_gone(local: ClerkNode) -> None:
    local.receive(note("113039", slices((1, 2))), name="note")

    assert (local.study().expired, local.study().state) == ("", "complete")
    assert sweep(local, 0) == []


def test_what_is_sent_after_its_retention_expired_counts_again(node: ClerkNode) -> None:
    node.receive(note("113039", slices(range(1, 8))), name="note")
    node.rounds_after(200)

    node.receive(*slices(range(1, 8)), name="again")
    node.rounds_after(200)

    assert set(dispositions(node).values()) == {"archived"}
    assert (node.study().state, node.study().expired, len(node.rows(Analysis))) == ("complete", "", 1)


def test_a_key_object_selection_of_another_title_rejects_nothing(local: ClerkNode) -> None:
    local.receive(note("113000", slices((1, 2))), name="note")

    assert set(dispositions(local).values()) == {"archived"}
    assert local.rows(Withdrawal) == []


def test_a_note_that_names_instances_under_another_study_touches_nothing(local: ClerkNode) -> None:
    local.receive(note("113001", slices((1, 2)), study="1.2.840.99999.9"), name="note")

    assert set(dispositions(local).values()) == {"archived"}


def test_a_rule_may_disobey_senders(local_node: ClerkNode) -> None:
    local_node.restart(rules=(Rule(name="scanners", calling_ae_title="SCAN*", rejection_notes=False),))
    settle(local_node)

    local_node.receive(note("113001", [ct(1)]), name="note")

    assert set(dispositions(local_node).values()) == {"archived"}
    assert local_node.rows(Withdrawal) == []


def _without_evidence(ds: Dataset) -> None:
    del ds.CurrentRequestedProcedureEvidenceSequence


def _without_uids(ds: Dataset) -> None:
    del ds.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID


@pytest.mark.parametrize("damage", [_without_evidence, _without_uids])
def test_a_damaged_note_is_kept_and_rejects_nothing(local: ClerkNode, damage: object) -> None:
    ds = note("113001", [ct(1)])
    damage(ds)  # type: ignore[operator]
    path = local.settings.data / "note.dcm"
    write(ds, path)

    assert read_rejection(path) is None
    local.receive(ds, name="note")
    assert f"{STUDY}/{STUDY}.77.1.dcm" in local.archived()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"state": "stored", "negotiated_at": True}, ["rn-113001-1"]),
        ({"state": "sending", "negotiated_at": None}, ["rn-113001-1"]),
        ({"state": "dead", "negotiated_at": True}, ["rn-113001-1"]),
        ({"state": "pending", "negotiated_at": None}, []),
        ({"state": "refused", "negotiated_at": None}, []),
    ],
    ids=["stored", "sending", "dead on its way", "waiting", "refused before its first byte"],
)
def test_a_destination_that_may_have_a_withdrawn_result_gets_a_rejection_note(
    clerk_node: ClerkNode, values: dict[str, object], told: list[str]
) -> None:
    clerk_node.restart(destinations=(PACS, PACS.model_copy(update={"name": "OTHER"})))
    settle(clerk_node)
    with transaction(clerk_node.engine) as session:
        row = session.get_one(Delivery, 1)
        row.state = str(values["state"])
        row.negotiated_at = clerk_node.clock() if values["negotiated_at"] else None

    clerk_node.receive(note("113001", [ct(1)]), name="note")

    rows = [row for row in clerk_node.rows(Delivery) if row.id > 1]
    assert [row.group for row in rows] == told
    assert {row.destination for row in rows} <= {"PACS"}


def test_a_destination_that_takes_no_notes_gets_none(local_node: ClerkNode) -> None:
    local_node.restart(destinations=(PACS.model_copy(update={"rejection_notes": False}),))
    settle(local_node)
    local_node.receive(note("113001", [ct(1)]), name="note")

    assert len(local_node.rows(Delivery)) == 1


def test_a_second_note_rejects_the_results_that_the_first_one_made(clerk_node: ClerkNode) -> None:
    clerk_node.restart(destinations=(PACS,))
    settle(clerk_node, count=5)
    for number in (1, 2):
        clerk_node.receive(note("113001", [ct(number)], number=number), name=f"n{number}")
        clerk_node.rounds_after(200)
        analyse(clerk_node)

    rows = sorted(clerk_node.rows(Delivery), key=lambda row: row.id)
    assert [(row.analysis_id, row.group) for row in rows] == [
        (1, "sr"), (1, "rn-113001-1"), (2, "sr"), (2, "rn-113001-1"), (3, "sr")
    ]  # fmt: skip
