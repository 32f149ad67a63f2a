import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select, text

from db import test_sets
from db.erasure import delete_study
from db.label_policy import Opinion
from db.labels import LabelledStudy, set_label
from db.models import AuditEvent, LabelSource, LabelValue, Study, StudyState
from db.queries import get_study
from db.session import transaction
from db.test_sets import Draw, FrozenSet, TrainingStudies, digest_of, freeze, verify
from lungnode.errors import UnusableError

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
VALUES = (LabelValue.POSITIVE, LabelValue.NEGATIVE)


def add(engine: Engine, uid: str, patient: str, *values: LabelValue, source: str = "rt-pcr") -> None:
    """Add a complete study, with labels of readers or tests of one day each."""
    with transaction(engine) as session:
        study = Study(study_instance_uid=uid, patient_id=patient, created_at=NOON, changed_at=NOON)
        study.state = StudyState.COMPLETE
        session.add(study)
        session.flush()
        for day, value in enumerate(values, start=1):
            opinion = Opinion(value, LabelSource(source), labelled_on=f"2026-01-{day:02}")
            set_label(session, study, opinion, NOON)


@pytest.fixture
def archive(engine: Engine) -> Engine:
    """Forty patients with two studies each, ten of them positive; and others that cannot be members."""
    with transaction(engine) as session:
        for number in range(80):
            study = Study(study_instance_uid=f"1.{number}", patient_id=f"P{number // 2}", created_at=NOON)
            study.changed_at, study.state = NOON, StudyState.COMPLETE
            session.add(study)
            session.flush()
            # A positive patient's first study is negative: before the infection.
            value = VALUES[not (number % 2 and number < 20)]
            set_label(session, study, Opinion(value, LabelSource.RT_PCR), NOON)
    return engine


def frozen(engine: Engine, name: str = "2026", draw: Draw | None = None) -> FrozenSet:
    with transaction(engine) as session:
        return freeze(session, name, draw or Draw(), NOON)


def parts(engine: Engine, policy: str = "rt-pcr-first") -> TrainingStudies:
    with transaction(engine) as session:
        return test_sets.training_studies(session, policy)


def uids(studies: Sequence[LabelledStudy]) -> list[str]:
    return [study.study_instance_uid for study in studies]


def test_a_test_set_holds_its_share_of_each_class_by_patient_with_all_their_studies(archive: Engine) -> None:
    found = frozen(archive, draw=Draw(share=0.2))

    positive = {study.patient for study in found.studies if study.value == LabelValue.POSITIVE}
    assert (len(found.patients), len(positive), len(found.studies)) == (8, 2, 16)
    assert found.is_intact


def test_no_patient_is_both_frozen_and_trained_on(archive: Engine) -> None:
    found = frozen(archive)

    rest = parts(archive)

    assert found.patients.isdisjoint(study.patient for study in rest.usable)
    assert len(found.studies) + len(rest.usable) == 80
    assert uids(rest.frozen) == [study.study_instance_uid for study in found.studies]


def test_the_digest_is_sha_256_over_one_line_a_study_in_the_order_of_their_uids(archive: Engine) -> None:
    found = frozen(archive)

    with archive.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT s.study_instance_uid, m.value FROM test_set_members m"
                " JOIN studies s ON s.id = m.study_id"
            )
        ).all()
    listed = "".join(f"{uid} {value}\n" for uid, value in sorted(tuple(row) for row in rows))
    assert found.digest == hashlib.sha256(listed.encode()).hexdigest()


def test_the_digest_of_a_known_list_is_what_sha256sum_prints() -> None:
    # printf '1.10 negative\n1.2 positive\n' | sha256sum
    assert digest_of([("1.2", "positive"), ("1.10", "negative")]) == (
        "fc3e0e0eede0489626a89cb34d91f2c88ce7a6c692bb231db43f4b4066ad3d9f"
    )


def test_the_same_seed_draws_the_same_patients_and_another_seed_others(archive: Engine) -> None:
    with transaction(archive) as session:
        first = freeze(session, "a", Draw(seed=1), NOON)
        session.rollback()
    with transaction(archive) as session:
        other = freeze(session, "b", Draw(seed=2), NOON)
        session.rollback()

    assert frozen(archive, "a", Draw(seed=1)).digest == first.digest
    assert other.digest != first.digest


def test_a_test_set_is_frozen_once(archive: Engine) -> None:
    found = frozen(archive)

    with pytest.raises(
        UnusableError, match="The test set 2026 is frozen already; a new one needs another name"
    ):
        frozen(archive, draw=Draw(seed=5))

    with transaction(archive) as session:
        assert test_sets.list_test_sets(session) == [found]


def test_of_many_who_freeze_the_same_name_at_once_one_succeeds(archive: Engine) -> None:
    def attempt(seed: int) -> str:
        try:
            return frozen(archive, draw=Draw(seed=seed)).digest
        except UnusableError as error:
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(attempt, range(6)))

    assert sum("frozen already" in result for result in results) == 5
    with transaction(archive) as session:
        (found,) = test_sets.list_test_sets(session)
    assert found.digest in results


def test_a_second_test_set_takes_nobody_from_the_first(archive: Engine) -> None:
    first, second = frozen(archive, "2026"), frozen(archive, "2027")

    assert first.patients.isdisjoint(second.patients)
    with transaction(archive) as session:
        assert test_sets.frozen_patients(session) == first.patients | second.patients


def test_a_study_of_a_frozen_patient_that_arrives_later_is_never_trained_on(archive: Engine) -> None:
    found = frozen(archive)
    patient = min(found.patients)
    add(archive, "2.1", f"{patient} ", LabelValue.POSITIVE)
    add(archive, "2.2", patient)
    add(archive, "2.3", "new", LabelValue.POSITIVE)

    assert "2.1" in uids(parts(archive).frozen)
    assert "2.3" in uids(parts(archive).usable)
    with transaction(archive) as session:
        held = test_sets.frozen_study_ids(session)
        later = [get_study(session, uid).id for uid in ("2.1", "2.2", "2.3")]
    assert held == {study.study_id for study in found.studies} | set(later[:2])


def test_studies_without_a_patient_id_stand_alone(engine: Engine) -> None:
    for number in range(8):
        add(engine, f"1.{number}", "", VALUES[number % 2])

    found = frozen(engine, draw=Draw(share=0.5))

    assert len(found.studies) == len(found.patients) == 4
    with transaction(engine) as session:
        assert test_sets.frozen_study_ids(session) == {study.study_id for study in found.studies}


def test_what_cannot_be_trained_on_is_parted_by_its_reason_and_never_frozen(archive: Engine) -> None:
    add(archive, "2.1", "X1", LabelValue.POSITIVE, LabelValue.NEGATIVE)
    add(archive, "2.2", "X2", LabelValue.UNCERTAIN)
    add(archive, "2.3", "X3", LabelValue.POSITIVE)
    with transaction(archive) as session:
        get_study(session, "2.3").state = StudyState.RECEIVING

    rest = parts(archive)

    assert (uids(rest.conflicts), uids(rest.undecided), uids(rest.unready)) == (["2.1"], ["2.2"], ["2.3"])
    assert not frozen(archive, draw=Draw(share=0.9)).patients & {"X1", "X2", "X3"}


def test_a_class_too_small_to_be_parted_is_refused(engine: Engine) -> None:
    for number in range(9):
        add(engine, f"1.{number}", f"P{number}", VALUES[number > 0])

    with pytest.raises(UnusableError, match=r"at least 2 positive patients .* there are 1\."):
        frozen(engine)


def test_each_class_has_a_patient_on_both_sides_whatever_the_share(archive: Engine) -> None:
    positive = {f"P{number}" for number in range(10)}

    for share in (0.001, 0.999):
        with transaction(archive) as session:
            found = freeze(session, "2026", Draw(share=share), NOON)
            session.rollback()
        assert 0 < len(found.patients & positive) < 10
        assert 0 < len(found.patients - positive) < 30


def test_a_share_that_is_none_is_refused(archive: Engine) -> None:
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UnusableError, match="lies between 0 and 1"):
            frozen(archive, draw=Draw(share=share))


def test_an_unknown_test_set_is_refused_with_those_that_there_are(archive: Engine) -> None:
    frozen(archive)

    with (
        transaction(archive) as session,
        pytest.raises(UnusableError, match="no test set 2025; frozen are: 2026"),
    ):
        test_sets.read_test_set(session, "2025")


def test_a_label_that_changes_later_leaves_the_frozen_one_and_its_digest(archive: Engine) -> None:
    found = frozen(archive)
    study = found.studies[0]
    other = VALUES[study.value == LabelValue.POSITIVE]
    with transaction(archive) as session:
        row = get_study(session, study.study_instance_uid)
        set_label(session, row, Opinion(other, LabelSource.RT_PCR), NOON)

    with transaction(archive) as session:
        again = test_sets.read_test_set(session, "2026")
    assert again == found
    verify(again)


def test_a_study_of_a_test_set_is_deleted_only_by_force_and_the_set_tells(archive: Engine) -> None:
    uid = frozen(archive).studies[0].study_instance_uid
    with (
        transaction(archive) as session,
        pytest.raises(UnusableError, match=rf"Study {uid} is in the frozen test set 2026, .* --force"),
    ):
        delete_study(session, get_study(session, uid), NOON)

    with transaction(archive) as session:
        delete_study(session, get_study(session, uid), NOON, force=True)

    with transaction(archive) as session:
        found = test_sets.read_test_set(session, "2026")
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
    assert (len(found.studies), found.is_intact) == (15, False)
    assert (event.action, event.subject, event.details["test_sets"]) == ("study deleted", uid, ["2026"])
    with pytest.raises(UnusableError, match="The test set 2026 is not what was frozen any more"):
        verify(found)


def test_a_row_that_somebody_changed_is_noticed(archive: Engine) -> None:
    frozen(archive)
    with archive.begin() as connection:
        connection.execute(text("UPDATE test_set_members SET value = 'positive' WHERE value = 'negative'"))

    with transaction(archive) as session, pytest.raises(UnusableError, match="not what was frozen"):
        verify(test_sets.read_test_set(session, "2026"))


def test_a_freeze_leaves_how_it_was_drawn_in_the_audit(archive: Engine) -> None:
    found = frozen(archive, draw=Draw(0.3, 7, "majority"))

    with transaction(archive) as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
    drawn = {"share": 0.3, "seed": 7, "policy": "majority"}
    held = {"digest": found.digest, "studies": len(found.studies), "patients": len(found.patients)}
    assert (event.action, event.subject, event.details) == ("test set frozen", "2026", drawn | held)
