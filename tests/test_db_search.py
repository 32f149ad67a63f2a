from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain, product
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, select, update

from benchmarks.generated import fill
from db.models import Analysis, AnalysisState, Study
from db.paging import Page
from db.search import Order, Search, Step, browse_studies, count_studies, search_studies, values_of
from db.session import open_engine, reading, transaction, upgrade
from db.text_keys import search_key
from lungnode.errors import UnusableError
from tests.databases import new_sqlite
from tests.spooling import NOON

DONE = {"state": "complete"}
NAMES = {
    "1": "Müller^Änne^^Dr.",
    "2": "MULLER^Jan",
    "3": "Yamada^Tarou=山田^太郎",
    "4": "100%_sure^Ann",
    "5": "O'Brien^Siobhán",
}


def add(engine: Engine, uid: str, **columns: Any) -> None:
    at = NOON + timedelta(minutes=int(uid.rpartition(".")[2]))
    values = {
        "study_instance_uid": uid,
        "created_at": at,
        "changed_at": at,
        "patient_name": NAMES.get(uid, ""),
    }
    with transaction(engine) as session:
        session.add(Study(**values | columns))


def analyse(engine: Engine, uid: str, **columns: Any) -> None:
    with transaction(engine) as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
        revision = len(study.analyses) + 1
        session.add(Analysis(study_id=study.id, revision=revision, due_at=NOON, created_at=NOON, **columns))


def found(
    engine: Engine, wanted: Search, page: Page | None = None, order: Order = Order.CHANGED
) -> list[str]:
    with reading(engine) as session:
        rows = search_studies(session, wanted, page or Page(), order).rows
        return [row.study.study_instance_uid for row in rows]


@pytest.fixture
def hospital(engine: Engine) -> Engine:
    add(engine, "1", patient_id="4711", study_date="20260301", accession_number="A1", calling_ae_title="CT1")
    add(
        engine, "2", patient_id="4712", study_date="20260302", completeness="quiet: no gaps", state="complete"
    )
    add(
        engine, "3", patient_id="99", study_date="20260401", completeness="complete: 8 of 8", state="complete"
    )
    add(engine, "4", patient_id="M*", study_date="")
    add(engine, "5", patient_id="m_x")
    analyse(engine, "2", state=AnalysisState.DONE, verdict="positive", probability=0.9, model="a 1")
    analyse(engine, "3", state=AnalysisState.DONE, verdict="negative", probability=0.1, model="a 2")
    return engine


ASKED = {
    Search(): "54321",
    Search(patient="muller"): "21",
    Search(patient="Müller, änne"): "1",
    Search(patient="MUL*jan"): "2",
    Search(patient="*anne*"): "1",
    Search(patient="山田"): "",
    Search(patient="*山田*"): "3",
    Search(patient="471"): "21",
    Search(patient="471?"): "21",
    Search(patient="100%_"): "4",
    Search(patient="*%*"): "4",
    Search(patient="m_*"): "5",
    Search(patient="o'brien"): "5",
    Search(patient="' OR 1=1 --"): "",
    Search(accession_number="A1"): "1",
    Search(first_date="20260302"): "32",
    Search(last_date="20260302"): "21",
    Search(first_date="20260302", last_date="20260331"): "2",
    Search(state="complete"): "32",
    Search(last_state="done"): "32",
    Search(verdict="positive"): "2",
    Search(completeness="quiet"): "2",
    Search(source="CT1"): "1",
    Search(model="a 2"): "3",
    Search(study_instance_uid="4"): "4",
    Search(patient="muller", verdict="positive"): "2",
}


def test_studies_are_found_by_what_is_asked(hospital: Engine) -> None:
    with reading(hospital) as session:
        counted = {wanted: count_studies(session, wanted) for wanted in ASKED}

    assert {wanted: "".join(found(hospital, wanted)) for wanted in ASKED} == ASKED
    assert counted == {wanted: len(uids) for wanted, uids in ASKED.items()}


def test_lists_are_sorted_by_what_is_asked(hospital: Engine) -> None:
    assert "".join(found(hospital, Search(), Page(descending=False))) == "12345"
    assert "".join(found(hospital, Search(), order=Order.STUDY_DATE)) == "32154"
    assert "".join(found(hospital, Search(), Page(descending=False), Order.PATIENT)) == "41253"
    assert "".join(found(hospital, Search(), order=Order.PROBABILITY)) == "23"


def test_pages_show_each_study_once_whatever_its_neighbours_have_in_common(engine: Engine) -> None:
    for number in range(1, 24):
        uid = f"9.{number}"
        add(engine, uid, changed_at=NOON, study_date="2026", patient_name="Doe" if number % 2 else "Roe")
        analyse(engine, uid, state="done", probability=0.1 * (number % 3))

    for order in Order:
        for descending in (True, False):
            pages = list(_pages(engine, order, descending=descending))
            seen = [uid for page in pages for uid in page]
            assert (len(pages), len(seen), len(set(seen))) == (5, 23, 23), (order, descending)


def _pages(engine: Engine, order: Order, *, descending: bool) -> Iterator[list[str]]:
    page = Page("", 5, descending)
    while True:
        with reading(engine) as session:
            got = search_studies(session, Search(), page, order)
        yield [row.study.study_instance_uid for row in got.rows]
        if not got.next:
            return
        page = Page(got.next, 5, descending)


def test_a_place_that_was_not_given_out_is_refused(hospital: Engine) -> None:
    for after in ("x", "e30", "WzFd", "W251bGwsbnVsbF0", "ééé", "WyJ4IiwxXQ"):
        with pytest.raises(UnusableError, match="begin anew"):
            found(hospital, Search(), Page(after))


def test_a_study_says_what_its_last_analysis_does_whoever_changes_that(hospital: Engine) -> None:
    analyse(hospital, "3", state=AnalysisState.QUEUED)
    assert (found(hospital, Search(last_state="queued")), found(hospital, Search(verdict="negative"))) == (
        ["3"],
        [],
    )

    with transaction(hospital) as session:
        latest = select(Analysis.id).order_by(Analysis.id.desc()).limit(1).scalar_subquery()
        session.execute(
            update(Analysis).where(Analysis.id == latest).values(state="done", verdict="undetermined"),
            execution_options={"synchronize_session": False},
        )
        first = session.scalars(select(Analysis).where(Analysis.verdict == "negative")).one()
        first.verdict = "positive"  # of an earlier revision

    assert found(hospital, Search(verdict="undetermined")) == ["3"]
    assert found(hospital, Search(verdict="positive")) == ["2"]


def test_a_corrected_name_is_found_and_the_one_before_is_not(hospital: Engine) -> None:
    with transaction(hospital) as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == "1")).one()
        study.patient_name, study.completeness = "Schulz^Änne", "incomplete: 2 gaps"

    assert (found(hospital, Search(patient="schulz")), found(hospital, Search(patient="muller"))) == (
        ["1"],
        ["2"],
    )
    assert found(hospital, Search(completeness="incomplete")) == ["1"]


def test_the_values_to_choose_from_are_those_that_are_there(hospital: Engine) -> None:
    with reading(hospital) as session:
        assert values_of(session, Study.last_model) == ["a 1", "a 2"]
        assert values_of(session, Study.completeness_kind) == ["complete", "quiet"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = new_sqlite(f"sqlite:///{tmp_path_factory.mktemp('filled') / 'lungnode.sqlite3'}")
    fill(engine, 3000)
    with engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("order", [Order.CHANGED, Order.STUDY_DATE])
@pytest.mark.parametrize(
    "wanted",
    [
        Search(patient="mull"),
        Search(accession_number="A00000500"),
        Search(first_date="20210201", last_date="20210203"),
        Search(verdict="positive"),
        Search(last_state="quarantined"),
        Search(state="complete"),
        Search(completeness="quiet"),
        Search(source="CT2"),
        Search(model="lungnode-resnet50 1.0"),
    ],
)
def test_no_common_search_looks_at_every_study(filled: Engine, wanted: Search, order: Order) -> None:
    statements: list[tuple[str, Any]] = []

    def keep(_c: Any, _u: Any, statement: str, parameters: Any, _x: Any, _m: Any) -> None:
        statements.append((statement, parameters))

    event.listen(filled, "before_cursor_execute", keep)
    found(filled, wanted, order=order)
    event.remove(filled, "before_cursor_execute", keep)

    with filled.connect() as connection:
        plan = [
            str(row[3])
            for statement, parameters in statements
            if statement.startswith("SELECT")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert plan
    assert [step for step in plan if step.startswith("SCAN")] == []


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Müller^Änne^^Dr.", "muller anne dr."),
        ("Ünal", "unal"),
        ("STRAẞE^X", "strasse x"),
        ("Yamada^Tarou=山田^太郎", "yamada tarou 山田 太郎"),
        ("", ""),
        ("x" * 300, "x" * 255),
    ],
)
def test_names_are_compared_without_case_accents_and_carets(name: str, key: str) -> None:
    assert search_key(name) == key


def test_a_reader_waits_for_no_writer(database_url: str) -> None:
    engine = open_engine(database_url, lock_wait_s=0.1)
    upgrade(engine)
    add(engine, "1")

    with transaction(engine) as writer:
        writer.execute(delete(Study))
        assert found(engine, Search()) == ["1"]
    with reading(engine) as session:
        assert session.scalars(select(Study)).all() == []
    engine.dispose()


def test_who_goes_on_and_back_again_sees_the_same_pages(hospital: Engine) -> None:
    for order, descending in product(Order, (True, False)):
        whole = found(hospital, Search(), Page("", 9, descending), order)
        pages: list[list[str]] = []
        back: list[list[str]] = []
        step = Step(limit=2, descending=descending)
        with reading(hospital) as session:
            while step.after or not pages:
                seen = browse_studies(session, Search(), step, order)
                pages.append([row.study.study_instance_uid for row in seen.rows])
                step = replace(step, after=seen.after)
            while seen.before:
                seen = browse_studies(session, Search(), replace(step, before=seen.before), order)
                back.append([row.study.study_instance_uid for row in seen.rows])

        assert list(chain(*pages)) == whole
        assert back == pages[-2::-1]


def test_who_goes_back_to_the_beginning_sees_what_has_come_meanwhile(hospital: Engine) -> None:
    with reading(hospital) as session:
        second = browse_studies(session, Search(), Step(limit=2)).after
        place = browse_studies(session, Search(), Step(after=second, limit=2)).before
    add(hospital, "6")

    with reading(hospital) as session:
        seen = browse_studies(session, Search(), Step(before=place, limit=3))

    assert ([row.study.study_instance_uid for row in seen.rows], seen.before) == (["6", "5", "4"], "")


def test_a_count_with_a_bound_stops_there(hospital: Engine) -> None:
    with reading(hospital) as session:
        every = count_studies(session, Search())
        bounded = [
            count_studies(session, Search(), most) for most in (every - 2, every - 1, every, every + 1)
        ]

    assert bounded == [every - 1, every, every, every]
