from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from db.label_policy import Opinion
from db.labels import delete_labels, set_label
from db.models import LabelSource, LabelValue, Study, StudyState
from db.queries import get_study
from db.session import transaction
from db.test_sets import Draw, freeze
from trainer.archive import select_test_set, select_training
from trainer.samples import Split

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
VALUES = (LabelValue.POSITIVE, LabelValue.NEGATIVE)


def freeze_half(engine: Engine) -> set[str]:
    """Label eight patients, freeze four of them; returns the frozen studies."""
    with transaction(engine) as session:
        for number in range(8):
            study = Study(study_instance_uid=f"1.{number}", patient_id=f"P{number}", created_at=NOON)
            study.changed_at, study.state = NOON, StudyState.COMPLETE
            session.add(study)
            session.flush()
            set_label(session, study, Opinion(VALUES[number % 2], LabelSource.RT_PCR), NOON)
        return {study.study_instance_uid for study in freeze(session, "2026", Draw(0.5), NOON).studies}


def test_what_is_trained_on_and_what_is_measured_with_have_no_patient_in_common(engine: Engine) -> None:
    frozen = freeze_half(engine)

    with transaction(engine) as session:
        training = select_training(session, Path("archive"), "rt-pcr-first")
        test = select_test_set(session, Path("archive"), "2026", "rt-pcr-first")

    assert {study.files.study_instance_uid for study in test.studies} == frozen
    assert len(training.studies) == 4
    assert {study.group for study in training.studies}.isdisjoint(study.group for study in test.studies)
    assert {study.split for study in test.studies} == {Split.TEST}


def test_a_frozen_study_whose_labels_were_deleted_is_measured_with_its_frozen_label(engine: Engine) -> None:
    frozen = freeze_half(engine)
    with transaction(engine) as session:
        for uid in frozen:
            study = get_study(session, uid)
            delete_labels(session, study, list(study.labels), NOON)

    with transaction(engine) as session:
        test = select_test_set(session, Path("archive"), "2026", "rt-pcr-first")

    values = {study.files.study_instance_uid: study.positive for study in test.studies}
    assert values == {uid: int(uid[2:]) % 2 == 0 for uid in frozen}
