from datetime import datetime, timedelta

from sqlalchemy import Engine

from db import drift
from db.drift import labelled_scores, labelled_shadow_scores, said_by_readers, sample_results
from db.models import Analysis, Feedback, Label, ShadowResult, Study
from db.session import reading, transaction
from tests.spooling import NOON

OURS, OTHER = "a" * 64, "b" * 64
EDGES = [NOON - timedelta(days=days) for days in (2, 1, 0)]


def add(engine: Engine, uid: str, at: datetime, digest: str = OURS, **labels: datetime) -> None:
    """Add a positive study of a model, which the other one took for negative, and what was said of it."""
    with transaction(engine) as session:
        study = Study(study_instance_uid=uid, calling_ae_title="CT1", created_at=at, changed_at=at)
        told = {"verdict": "positive", "probability": 0.9, "model_digest": digest}
        times = {"due_at": at, "created_at": at, "finished_at": at}
        row = Analysis(revision=1, state="done", input_statistics={"slices": 100.0}, **told, **times)
        study.analyses.append(row)
        session.add(study)
        session.flush()
        beside = {"verdict": "negative", "probability": 0.2, "threshold": 0.5, "seconds": 1.0}
        session.add(ShadowResult(analysis_id=row.id, model="o", model_digest=OTHER, created_at=at, **beside))
        for value, said_at in labels.items():
            of = {"study_id": study.id, "value": value, "reader": value, "created_at": said_at}
            session.add(Label(**of, source="reader"))
            said = "agree" if value == "positive" else "disagree"
            session.add(
                Feedback(**of, analysis_id=row.id, agreement=said, changed_at=said_at, labelled_on="")
            )


def test_each_step_has_the_results_of_its_model_and_no_others(engine: Engine) -> None:
    add(engine, "1", NOON - timedelta(hours=30))
    add(engine, "2", NOON - timedelta(hours=3))
    add(engine, "3", NOON - timedelta(hours=2), OTHER)
    add(engine, "4", NOON - timedelta(days=3))

    with reading(engine) as session:
        first, second = sample_results(session, OURS, EDGES)

    assert [len(first), len(second)] == [1, 1]
    assert (second[0].source, second[0].is_positive, second[0].probability) == ("CT1", True, 0.9)
    assert second[0].statistics == {"slices": 100.0}


def test_the_newest_label_of_a_study_is_the_truth_for_the_model_and_its_shadow(engine: Engine) -> None:
    add(engine, "1", NOON, positive=NOON, negative=NOON)
    add(engine, "2", NOON, OTHER, positive=NOON)
    add(engine, "3", NOON, uncertain=NOON)

    with reading(engine) as session:
        assert labelled_scores(session, OURS) == [(0.9, False)]
        assert sorted(labelled_shadow_scores(session, OTHER)) == [(0.2, False), (0.2, True)]


def test_what_readers_said_is_counted_in_the_step_in_which_they_said_it(engine: Engine) -> None:
    add(engine, "1", NOON - timedelta(days=9), positive=NOON - timedelta(hours=25))
    add(engine, "2", NOON - timedelta(hours=2), negative=NOON - timedelta(hours=1))
    add(engine, "3", NOON, positive=NOON - timedelta(days=5))

    with reading(engine) as session:
        said = said_by_readers(session, OURS, EDGES)

    assert [(step["agree"], step["disagree"], step["uncertain"]) for step in said] == [(1, 0, 0), (0, 1, 0)]


def test_no_more_than_500_results_of_a_step_are_read(engine: Engine) -> None:
    with transaction(engine) as session:
        study = Study(study_instance_uid="1", created_at=NOON, changed_at=NOON)
        at = NOON - timedelta(hours=1)
        for revision in range(1, drift.MOST + 3):
            row = {"state": "done", "verdict": "negative", "probability": 0.1, "model_digest": OURS}
            times = {"due_at": at, "created_at": at, "finished_at": at}
            study.analyses.append(Analysis(revision=revision, **row, **times))
        session.add(study)

    with reading(engine) as session:
        assert list(map(len, sample_results(session, OURS, EDGES))) == [0, drift.MOST]
