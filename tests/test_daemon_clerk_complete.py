from datetime import timedelta

import pytest
from pydicom.uid import Comprehensive3DSRStorage, EnhancedCTImageStorage

from db import intake
from db.models import Analysis, AnalysisState, AssociationRecord, Instance, StudyState
from db.session import transaction
from lungnode.settings import Rule
from tests.spooling import NOON, STUDY, ClerkNode, ct, slices

OTHER = "1.2.840.99999.2"


def test_a_quiet_study_is_completed_and_its_analysis_queued(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 5)))

    assert clerk_node.rounds_after(29) == []
    (analysis_id,) = clerk_node.rounds_after(1)

    study, (analysis,) = clerk_node.study(), clerk_node.rows(Analysis)
    assert (study.state, study.revision, study.completeness) == (StudyState.COMPLETE, 1, "quiet: no gaps")
    assert {instance.revision for instance in study.instances} == {1}
    assert (analysis.id, analysis.state, analysis.revision) == (analysis_id, AnalysisState.QUEUED, 1)
    assert (analysis.created_at, analysis.due_at) == (clerk_node.clock(), clerk_node.clock())
    assert (analysis.completeness, analysis.priority) == ("quiet: no gaps", 5)


def test_an_image_of_many_frames_is_not_called_no_volume(clerk_node: ClerkNode) -> None:
    clerk_node.receive(
        ct(1, SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=148, ImagePositionPatient=None)
    )
    clerk_node.rounds_after(30)

    assert clerk_node.study().completeness == "quiet: multi-frame"


def test_a_counted_study_is_completed_as_soon_as_its_association_ends(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(*slices(range(1, 5), ImagesInAcquisition=4))
    assert clerk_node.clerk.round() == []

    sender.release()

    assert len(clerk_node.clerk.round()) == 1
    assert clerk_node.study().completeness == "complete: 4 of 4"


def test_a_study_of_an_open_association_is_never_completed(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(*slices(range(1, 5)))
    clerk_node.clerk.round()

    rounds = [clerk_node.rounds_after(3600) for _ in range(3)]

    assert rounds == [[], [], []]
    sender.lose()
    assert len(clerk_node.clerk.round()) == 1


def test_an_association_that_brings_only_known_images_holds_the_study_open(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 5)))
    clerk_node.clock.pass_s(20)
    sender = clerk_node.sender("a2").send(ct(1))
    clerk_node.clerk.round()

    assert clerk_node.rounds_after(100) == []

    sender.release()
    assert len(clerk_node.clerk.round()) == 1


def test_other_studies_do_not_wait_for_an_open_association(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender("a1").send(*slices(range(1, 5)))
    clerk_node.receive(*slices(range(1, 5), OTHER), name="a2")

    clerk_node.rounds_after(30)

    states = {uid: study.state for uid, study in clerk_node.studies().items()}
    assert states == {STUDY: StudyState.RECEIVING, OTHER: StudyState.COMPLETE}
    sender.lose()


def test_one_association_an_image_with_pauses_of_3_s_gives_one_analysis_of_all_slices(
    clerk_node: ClerkNode,
) -> None:
    queued = []
    for number in range(1, 31):
        clerk_node.sender(f"a{number}").send(ct(number)).release()
        queued += clerk_node.rounds_after(3)
    assert queued == []

    assert len(clerk_node.rounds_after(30)) == 1

    study = clerk_node.study()
    assert (study.revision, len(study.instances)) == (1, 30)
    assert {row.outcome for row in clerk_node.rows(AssociationRecord)} == {"released"}


def test_the_last_20_slices_after_the_analysis_make_revision_2(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 41)))
    first = clerk_node.rounds_after(30)

    clerk_node.receive(*slices(range(41, 61)), name="a2")
    assert clerk_node.study().state == StudyState.RECEIVING
    second = clerk_node.rounds_after(30)

    assert (len(first), len(second)) == (1, 1)
    study = clerk_node.study()
    assert [analysis.revision for analysis in study.analyses] == [1, 2]
    revisions = sorted(instance.revision or 0 for instance in study.instances)
    assert revisions == [1] * 40 + [2] * 20


def test_the_same_study_three_times_in_parallel_and_any_order_is_one_revision(clerk_node: ClerkNode) -> None:
    orders = {"a1": range(1, 21), "a2": range(20, 0, -1), "a3": (*range(11, 21), *range(1, 11))}
    senders = [clerk_node.sender(name).send(*slices(order)) for name, order in orders.items()]
    clerk_node.clerk.round()
    for sender in senders:
        sender.release()
        clerk_node.clerk.round()

    queued = clerk_node.rounds_after(30) + clerk_node.rounds_after(300)

    assert len(queued) == 1
    assert (clerk_node.study().revision, len(clerk_node.archived())) == (1, 20)


def test_a_complete_study_sent_again_is_not_analysed_again(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 5)))
    clerk_node.rounds_after(30)

    clerk_node.receive(*slices(range(1, 5)), name="a2")

    assert clerk_node.rounds_after(300) == []


def test_another_nodes_report_joins_a_complete_study_without_a_new_revision(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices(range(1, 5)))
    clerk_node.rounds_after(30)

    clerk_node.receive(ct(50, SOPClassUID=Comprehensive3DSRStorage, PixelData=None), name="a2")

    assert clerk_node.rounds_after(300) == []
    assert clerk_node.rows(Instance)[-1].revision == 1


def test_a_gap_makes_a_study_wait_longer(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices((1, 2, 3, 5, 6)))

    assert clerk_node.rounds_after(119) == []
    assert len(clerk_node.rounds_after(1)) == 1
    assert clerk_node.study().completeness == "incomplete: 1 gap"


def test_a_slice_that_fills_the_gap_shortens_the_wait(clerk_node: ClerkNode) -> None:
    clerk_node.receive(*slices((1, 2, 3, 5, 6)))
    clerk_node.rounds_after(60)

    clerk_node.receive(ct(4), name="a2")

    assert len(clerk_node.rounds_after(30)) == 1
    assert clerk_node.study().completeness == "quiet: no gaps"


@pytest.mark.parametrize(
    ("rule", "queued"),
    [
        (Rule(name="slow", quiet_s=200), []),
        (Rule(name="archive", analyse=False), []),
        (Rule(name="fast", quiet_s=1, priority=1), [1]),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else "",
)
def test_a_rule_sets_quiet_period_priority_and_whether_to_analyse(
    clerk_node: ClerkNode, rule: Rule, queued: list[int]
) -> None:
    clerk_node.restart(rules=(rule,))
    clerk_node.receive(*slices(range(1, 5)))

    clerk_node.rounds_after(40)

    assert [analysis.priority for analysis in clerk_node.rows(Analysis)] == queued
    complete = clerk_node.study().state == StudyState.COMPLETE
    assert complete == (rule.name != "slow")


def test_an_association_of_another_host_holds_the_study_open_while_its_lease_lasts(
    clerk_node: ClerkNode,
) -> None:
    clerk_node.receive(*slices(range(1, 5)))
    with transaction(clerk_node.engine) as session:
        row = {
            "id": "there-1",
            "host": "there",
            "calling_ae_title": "SCANNER",
            "called_ae_title": "LUNGNODE",
            "address": "192.0.2.9",
            "opened_at": NOON,
            "lease_until": NOON + timedelta(seconds=60),
            "closed_at": None,
            "outcome": "open",
        }
        intake.mirror_associations(session, [row])
        intake.link_studies(session, [("there-1", STUDY)])

    assert clerk_node.rounds_after(59) == []
    assert len(clerk_node.rounds_after(1)) == 1


def test_the_lease_of_an_open_association_is_renewed(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct())
    for _ in range(10):
        clerk_node.rounds_after(40)

    (record,) = clerk_node.rows(AssociationRecord)
    assert record.lease_until > clerk_node.clock()
    assert (record.closed_at, record.outcome) == (None, "open")
    sender.lose()


def test_an_association_that_was_lost_is_recorded_as_lost(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct())
    sender.lose()

    clerk_node.clerk.round()

    (record,) = clerk_node.rows(AssociationRecord)
    assert (record.outcome, record.closed_at) == ("lost", NOON)


def test_files_that_waited_while_the_clerk_was_down_are_judged_together(clerk_node: ClerkNode) -> None:
    for number in range(1, 301):
        clerk_node.sender(f"a{number:03}").send(ct(number)).release()
    clerk_node.clock.pass_s(3600)

    assert len(clerk_node.clerk.round()) == 1

    assert len([each for each in clerk_node.study().instances if each.revision == 1]) == 300


def test_an_association_that_closed_is_not_opened_again_by_a_clerk_that_saw_it_before(
    clerk_node: ClerkNode,
) -> None:
    clerk_node.receive(ct())
    stale = {
        "id": "a1",
        "host": "here",
        "calling_ae_title": "SCANNER",
        "called_ae_title": "LUNGNODE",
        "address": "192.0.2.7",
        "opened_at": NOON,
        "lease_until": NOON + timedelta(hours=1),
        "closed_at": None,
        "outcome": "open",
    }

    with transaction(clerk_node.engine) as session:
        intake.mirror_associations(session, [stale])

    (record,) = clerk_node.rows(AssociationRecord)
    assert (record.outcome, record.closed_at) == ("released", NOON)


def test_hundreds_of_open_associations_are_mirrored_once_and_all_closed(clerk_node: ClerkNode) -> None:
    senders = [clerk_node.sender(f"a{number:03}").send(ct(number)) for number in range(1, 271)]
    clerk_node.clerk.round()
    assert {record.outcome for record in clerk_node.rows(AssociationRecord)} == {"open"}

    for sender in senders:
        sender.release()
    clerk_node.clerk.round()

    assert [record.outcome for record in clerk_node.rows(AssociationRecord)] == ["released"] * 270
    assert len(clerk_node.study().instances) == 270
