from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select

from db import confirmations
from db.changes import reanalyse
from db.erasure import delete_study
from db.models import (
    Analysis,
    AnalysisState,
    AssociationStudy,
    Base,
    CommitmentTransaction,
    Confirmation,
    ConfirmationMethod,
    Delivery,
    DeliveryState,
    Instance,
    Output,
    Study,
)
from db.queries import (
    StudyFilter,
    get_study,
    list_instances,
    list_noted,
    list_series,
    list_studies,
)
from db.session import transaction
from lungnode.errors import UnusableError
from tests.spooling import NOON, STUDY, ClerkNode, ct, slices

OTHER = "1.2.840.99999.2"


@pytest.fixture
def two_studies(clerk_node: ClerkNode) -> Engine:
    """A study with a conflict and an analysis that is done, and one that is being received."""
    clerk_node.receive(*slices(range(1, 5)), ct(1, PixelData=bytes(32)))
    clerk_node.rounds_after(200)
    other = slices((1, 2), OTHER, PatientID="4712", AccessionNumber="A7", StudyDate="20260401")
    clerk_node.receive(*other, name="a2")
    with transaction(clerk_node.engine) as session:
        analysis = session.scalars(select(Analysis)).one()
        analysis.state, analysis.verdict, analysis.probability = AnalysisState.DONE, "positive", 0.93
        uids = {"sop_class_uid": "1.2", "sop_instance_uid": "1.3", "series_instance_uid": "1.4"}
        session.add(Output(analysis=analysis, group="sr", path="p", size=1, digest="d", **uids))
        session.add(Delivery(analysis=analysis, destination="pacs", group="sr", created_at=NOON, due_at=NOON))
    return clerk_node.engine


def test_studies_are_found_by_what_is_asked(two_studies: Engine) -> None:
    asked = {
        StudyFilter(): [OTHER, STUDY],
        StudyFilter(limit=1): [OTHER],
        StudyFilter(patient_id="4711"): [STUDY],
        StudyFilter(accession_number="A7"): [OTHER],
        StudyFilter(study_date="20260401"): [OTHER],
        StudyFilter(study_date="20260301-20260331"): [STUDY],
        StudyFilter(study_date="20260310-"): [OTHER],
        StudyFilter(study_date="-20260310"): [STUDY],
        StudyFilter(state="receiving"): [OTHER],
        StudyFilter(verdict="positive"): [STUDY],
        StudyFilter(verdict="negative"): [],
        StudyFilter(calling_ae_title="SCANNER"): [OTHER, STUDY],
        StudyFilter(study_instance_uid=STUDY, state="receiving"): [],
    }

    with transaction(two_studies) as session:
        found = {
            wanted: [each.study.study_instance_uid for each in list_studies(session, wanted)]
            for wanted in asked
        }

    assert found == asked


def test_a_summary_counts_and_tells_the_last_analysis(two_studies: Engine) -> None:
    with transaction(two_studies) as session:
        other, first = list_studies(session, StudyFilter())

    assert (first.series, first.instances, other.series, other.instances) == (1, 5, 1, 2)
    assert first.analysis is not None
    assert (first.analysis.verdict, other.analysis) == ("positive", None)


def test_a_study_comes_with_analyses_outputs_and_deliveries(two_studies: Engine) -> None:
    with transaction(two_studies) as session:
        study = get_study(session, STUDY)

    (analysis,) = study.analyses
    assert [output.group for output in analysis.outputs] == ["sr"]
    assert [delivery.destination for delivery in analysis.deliveries] == ["pacs"]


def test_an_unknown_study_is_a_sentence(engine: Engine) -> None:
    with transaction(engine) as session, pytest.raises(UnusableError, match=r"There is no study 1\.2\.9\."):
        get_study(session, "1.2.9")


def test_conflicts_are_shown_apart_and_never_analysed(two_studies: Engine) -> None:
    with transaction(two_studies) as session:
        study = get_study(session, STUDY)
        series = {each.disposition: each.instances for each in list_series(session, study)}
        assert series == {"archived": 4, "conflict": 1}
        assert [each.disposition for each in list_noted(session, study)] == ["conflict"]
        assert len(list_instances(session, study, revision=1)) == 4
        assert list_instances(session, study, revision=0) == []


def test_a_study_analysed_again_gets_a_new_revision_of_the_same_instances(two_studies: Engine) -> None:
    with transaction(two_studies) as session:
        analysis = reanalyse(session, get_study(session, STUDY), 5, NOON)

    with transaction(two_studies) as session:
        study = get_study(session, STUDY)
        assert (analysis.revision, study.revision, analysis.state) == (2, 2, AnalysisState.QUEUED)
        assert len(list_instances(session, study, revision=2)) == 4


def test_a_study_is_not_analysed_again_before_its_time(two_studies: Engine) -> None:
    with transaction(two_studies) as session:
        reanalyse(session, get_study(session, STUDY), 5, NOON)
        with pytest.raises(UnusableError, match="revision 2, is not finished"):
            reanalyse(session, get_study(session, STUDY), 5, NOON)
        with pytest.raises(UnusableError, match="is not complete yet"):
            reanalyse(session, get_study(session, OTHER), 5, NOON)


def test_a_deleted_study_leaves_no_row(two_studies: Engine) -> None:
    with transaction(two_studies) as session:
        delivery = session.scalars(select(Delivery)).one()
        confirmations.begin(session, delivery.id, ConfirmationMethod.COMMITMENT, NOON)
        session.flush()
        confirmations.begin_transaction(
            session, session.scalars(select(Confirmation)).one().id, "1.2.9", NOON
        )

    with transaction(two_studies) as session:
        delete_study(session, get_study(session, STUDY), NOON + timedelta(hours=1))
        delete_study(session, get_study(session, OTHER), NOON + timedelta(hours=1))

    tables: list[type[Base]] = [Study, Instance, Analysis, Output, Delivery, AssociationStudy]
    tables += [Confirmation, CommitmentTransaction]
    with transaction(two_studies) as session:
        counts = {session.scalar(select(func.count()).select_from(table)) for table in tables}
    assert counts == {0}


@pytest.mark.parametrize("busy", ["analysis", "delivery"])
def test_a_study_at_work_is_not_deleted(two_studies: Engine, busy: str) -> None:
    with transaction(two_studies) as session:
        if busy == "analysis":
            session.scalars(select(Analysis)).one().state = AnalysisState.RUNNING
        else:
            session.scalars(select(Delivery)).one().state = DeliveryState.SENDING

    with (
        transaction(two_studies) as session,
        pytest.raises(UnusableError, match="being analysed or delivered"),
    ):
        delete_study(session, get_study(session, STUDY), NOON + timedelta(hours=1))


def test_a_study_that_is_being_received_is_not_deleted(clerk_node: ClerkNode) -> None:
    sender = clerk_node.sender().send(ct())
    clerk_node.clerk.round()

    with transaction(clerk_node.engine) as session, pytest.raises(UnusableError, match="being received"):
        delete_study(session, get_study(session, STUDY), clerk_node.clock())
    sender.lose()
