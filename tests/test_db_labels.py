from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from db.erasure import delete_study
from db.label_file import read_label_file
from db.label_import import Imported, apply_import, plan_import
from db.label_policy import Opinion
from db.labels import (
    Written,
    delete_labels,
    every_label,
    labelled_studies,
    opinion_of,
    set_label,
    unlabelled_studies,
)
from db.models import Analysis, AnalysisState, AuditEvent, Label, LabelSource, LabelValue, Study, StudyState
from db.queries import get_study
from db.session import transaction

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
POSITIVE, NEGATIVE = LabelValue.POSITIVE, LabelValue.NEGATIVE
PCR = LabelSource.RT_PCR


def add_studies(engine: Engine, *rows: tuple[str, str, str, str], **values: Any) -> None:
    """Add complete studies of (UID, Patient ID, Accession Number, Study Date)."""
    given: dict[str, Any] = {"state": StudyState.COMPLETE, "created_at": NOON, "changed_at": NOON, **values}
    names = ("study_instance_uid", "patient_id", "accession_number", "study_date")
    with transaction(engine) as session:
        session.add_all(Study(**given, **dict(zip(names, row, strict=True))) for row in rows)


@pytest.fixture
def archive(engine: Engine) -> Engine:
    """Five studies of three patients; one accession number was used for two of them."""
    add_studies(
        engine,
        ("1.1", "P1", "A1", "20260101"),
        ("1.2", "P1", "A2", "20260102"),
        ("1.3", "P2", "A3", "20260103"),
        ("1.4", "P3", "A3", "20260104"),
        ("1.5", "P3", "A5", "20260104"),
    )
    return engine


def said(engine: Engine) -> dict[str, list[str]]:
    with transaction(engine) as session:
        found: dict[str, list[str]] = {}
        for uid, opinion in every_label(session):
            found.setdefault(uid, []).append(str(opinion.value))
        return found


def events(engine: Engine) -> list[AuditEvent]:
    with transaction(engine) as session:
        return list(session.scalars(select(AuditEvent).order_by(AuditEvent.id)))


def label(engine: Engine, uid: str, *opinions: Opinion) -> list[str]:
    with transaction(engine) as session:
        return [str(set_label(session, get_study(session, uid), opinion, NOON)) for opinion in opinions]


def test_labels_of_several_readers_sources_and_dates_are_kept_side_by_side(archive: Engine) -> None:
    opinions = [
        Opinion(POSITIVE, PCR),
        Opinion(NEGATIVE, PCR, labelled_on="2026-01-05"),
        Opinion(NEGATIVE, LabelSource.READER, "a"),
        Opinion(POSITIVE, LabelSource.READER, "b", symptomatic=False),
    ]

    assert label(archive, "1.1", *opinions) == ["added"] * 4

    with transaction(archive) as session:
        rows = session.scalars(select(Label).order_by(Label.id)).all()
        assert [opinion_of(row) for row in rows] == opinions


def test_the_same_source_reader_and_date_again_updates_the_label_and_the_audit_tells_what_it_was(
    archive: Engine,
) -> None:
    first = Opinion(POSITIVE, PCR, symptomatic=True)

    assert label(archive, "1.1", first, first, Opinion(NEGATIVE, PCR)) == ["added", "unchanged", "updated"]

    with transaction(archive) as session:
        # Symptoms that nobody mentions stay as they are known.
        assert [opinion_of(row) for row in session.scalars(select(Label))] == [
            Opinion(NEGATIVE, PCR, symptomatic=True)
        ]
    last = events(archive)[-1]
    assert (last.action, last.subject) == ("label set", "1.1")
    assert (last.details["before"], last.details["label"]) == ("positive", "negative")


def test_of_many_who_set_the_same_label_at_once_one_adds_it(archive: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: label(archive, "1.1", Opinion(POSITIVE, PCR)), range(8)))

    assert sorted(one for (one,) in written) == ["added", *["unchanged"] * 7]


def test_a_deleted_label_stays_in_the_audit(archive: Engine) -> None:
    label(archive, "1.1", Opinion(POSITIVE, PCR), Opinion(NEGATIVE, LabelSource.READER, "a"))

    with transaction(archive) as session:
        study = get_study(session, "1.1")
        delete_labels(session, study, [row for row in study.labels if row.reader == "a"], NOON)

    assert said(archive) == {"1.1": ["positive"]}
    assert events(archive)[-1].details["labels"][0]["reader"] == "a"


def test_the_labels_of_a_deleted_study_go_with_it(archive: Engine) -> None:
    label(archive, "1.1", Opinion(POSITIVE, PCR))

    with transaction(archive) as session:
        delete_study(session, get_study(session, "1.1"), NOON)

    assert said(archive) == {}
    last = events(archive)[-1]
    assert (last.action, last.subject, last.details) == (
        "study deleted",
        "1.1",
        {"labels": 1, "test_sets": [], "trained_in": []},
    )


def test_labelled_studies_carry_the_ruling_and_what_table_4_compares(archive: Engine) -> None:
    label(
        archive,
        "1.1",
        Opinion(POSITIVE, PCR, labelled_on="2026-01-09", symptomatic=False),
        Opinion(NEGATIVE, PCR, labelled_on="2026-01-02"),
        Opinion(POSITIVE, LabelSource.CLINICAL),
    )
    label(archive, "1.3", Opinion(POSITIVE, PCR, symptomatic=True))
    label(archive, "1.3", Opinion(POSITIVE, LabelSource.CLINICAL, symptomatic=False))

    with transaction(archive) as session:
        one, three = labelled_studies(session, "clinical-first")

    assert (one.study_instance_uid, one.patient, one.ruling.value) == ("1.1", "P1", POSITIVE)
    assert (one.symptomatic, one.first_rt_pcr) == (False, NEGATIVE)
    assert (three.symptomatic, three.first_rt_pcr) == (None, POSITIVE)


def test_a_study_that_is_incomplete_or_no_chest_ct_is_not_ready_to_train_on(archive: Engine) -> None:
    add_studies(archive, ("1.6", "P6", "", ""), state=StudyState.RECEIVING)
    for uid in ("1.1", "1.5", "1.6"):
        label(archive, uid, Opinion(POSITIVE, PCR))
    with transaction(archive) as session:
        for uid, states in (
            ("1.1", (AnalysisState.DONE, AnalysisState.NOT_APPLICABLE)),
            ("1.5", (AnalysisState.NOT_APPLICABLE, AnalysisState.DONE)),
        ):
            study = get_study(session, uid)
            for revision, state in enumerate(states, start=1):
                row = Analysis(study=study, revision=revision, state=state, created_at=NOON, due_at=NOON)
                session.add(row)
                session.flush()

    with transaction(archive) as session:
        ready = {study.study_instance_uid: study.is_ready for study in labelled_studies(session, "majority")}

    assert ready == {"1.1": False, "1.5": True, "1.6": False}


def test_unlabelled_studies_are_those_that_a_label_would_make_usable(archive: Engine) -> None:
    add_studies(archive, ("1.6", "P6", "", ""), state=StudyState.RECEIVING)
    label(archive, "1.1", Opinion(POSITIVE, PCR))
    with transaction(archive) as session:
        study = get_study(session, "1.2")
        state = AnalysisState.NOT_APPLICABLE
        session.add(Analysis(study=study, revision=1, state=state, created_at=NOON, due_at=NOON))

    with transaction(archive) as session:
        assert [study.study_instance_uid for study in unlabelled_studies(session, 2)] == ["1.5", "1.4"]


# What follows goes through a file, as an operator's labels do.


def import_text(engine: Engine, path: Path, text: str) -> tuple[list[str], list[str], Imported | None]:
    """Import lines as the command does; returns problems, lines of unknown studies, what was done."""
    path.write_text(text)
    read = read_label_file(path)
    with transaction(engine) as session:
        plan = plan_import(session, read.lines)
        problems = [str(problem) for problem in (*read.problems, *plan.problems)]
        done = None if problems else apply_import(session, plan, read.digest, NOON)
    return problems, [str(problem) for problem in plan.unknown], done


def planned(engine: Engine, path: Path, text: str) -> tuple[list[str], list[str]]:
    """Plan an import of one file; returns the studies it would label, and the problems."""
    path.write_text(text)
    with transaction(engine) as session:
        plan = plan_import(session, read_label_file(path).lines)
        return [change.study.study_instance_uid for change in plan.changes], [str(p) for p in plan.problems]


def test_a_study_is_named_by_any_identifier_that_fits_it_alone_or_all_on_request(
    archive: Engine, tmp_path: Path
) -> None:
    meant = {
        "study_instance_uid,label\n1.1,pos\n1.3,neg\n": ["1.1", "1.3"],
        "accession_number,label\nA1,pos\n": ["1.1"],
        "patient_id,label\nP2,neg\n": ["1.3"],
        "patient_id,study_date,label\nP1,2026-01-02,neg\n": ["1.2"],
        "patient_id,accession_number,label\nP3,A3,neg\n": ["1.4"],
        "patient_id,studies,label\nP1,all,neg\n": ["1.1", "1.2"],
        "patient_id,label\nP2,neg\nP2,neg\n": ["1.3"],
    }

    for text, uids in meant.items():
        assert planned(archive, tmp_path / "labels.csv", text) == (uids, []), text


def test_a_line_that_leaves_a_doubt_is_refused(archive: Engine, tmp_path: Path) -> None:
    complaints = {
        "patient_id,label\nP2,neg\nP1,neg\n": (
            "Line 3: Patient ID P1 fits 2 studies, 1.1, 1.2; give study_instance_uid or study_date, or say "
            "all in a column studies."
        ),
        "accession_number,studies,label\nA3,all,neg\n": (
            "Line 2: Accession Number A3 fits studies of several patients: 1.3, 1.4."
        ),
        "study_instance_uid,patient_id,label\n1.1,P2,neg\n": (
            "Line 2: no study has Study Instance UID 1.1 and Patient ID P2 together."
        ),
        "study_instance_uid,label\n1.1,neg\n1.1,pos\n": (
            "Line 3: it says positive where line 2 says negative of the same study, source, reader and date."
        ),
    }

    for text, complaint in complaints.items():
        assert planned(archive, tmp_path / "labels.csv", text)[1] == [complaint]


def test_unknown_studies_are_told_apart_from_bad_lines(archive: Engine, tmp_path: Path) -> None:
    text = "patient_id,study_date,label\nP9,,pos\nP2,,neg\nP9,20260101,pos\n"

    problems, unknown, done = import_text(archive, tmp_path / "labels.csv", text)

    assert problems == []
    assert unknown == [
        "Line 2: there is no study with Patient ID P9.",
        "Line 4: there is no study with Patient ID P9 and Study Date 20260101.",
    ]
    assert done
    assert events(archive)[-1].details["skipped"] == 2


def test_an_import_again_says_what_it_updated_and_one_audit_event_keeps_it(
    archive: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    import_text(archive, path, "accession_number,label,symptomatic\nA1,pos,no\nA2,pos,\n")

    _, _, done = import_text(archive, path, "accession_number,label\nA1,neg\nA2,pos\nA5,pos\n")

    assert done
    assert done.counts == {"added": 1, "updated": 1, "unchanged": 1}
    (update,) = done.updates
    assert (update["line"], update["study_instance_uid"], update["label"]) == (2, "1.1", "negative")
    assert update["before"] == {"label": "positive", "symptomatic": False}
    first, second = events(archive)
    assert (first.action, second.action) == ("labels imported", "labels imported")
    assert second.details["updates"] == [update]


def test_more_lines_than_one_query_takes_are_imported(archive: Engine, tmp_path: Path) -> None:
    add_studies(archive, *((f"2.{number}", f"Q{number}", "", "") for number in range(1200)))
    lines = "".join(f"Q{number},{'pos' if number % 2 else 'neg'}\n" for number in range(1200))

    _, unknown, done = import_text(archive, tmp_path / "labels.csv", f"patient_id,label\n{lines}")

    assert done
    assert (unknown, done.counts[Written.ADDED], len(said(archive))) == ([], 1200, 1200)


def test_imports_of_the_same_studies_at_once_follow_each_other(archive: Engine, tmp_path: Path) -> None:
    texts = [f"patient_id,studies,label\nP1,all,{value}\nP2,,{value}\n" for value in ("pos", "neg") * 4]

    def run(numbered: tuple[int, str]) -> Sequence[int]:
        number, text = numbered
        _, _, done = import_text(archive, tmp_path / f"{number}.csv", text)
        assert done
        return list(done.counts.values())

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(run, enumerate(texts)))

    assert sum(added for added, *_ in counts) == 3
    assert len(said(archive)) == 3
