import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from benchmarks.generated import fill
from db.derived import drop_derived, make_derived
from db.models import Analysis, Study
from db.session import transaction
from db.views import VIEWS, drop_views, grant, make_views
from tests.spooling import NOON

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs/results.md").read_text()
QUESTIONS = re.findall(r"^\*\*(\d+)\. .*?\n```sql\n(.*?)```", DOCUMENT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def filled(engine: Engine) -> Engine:
    fill(engine, 400)
    return engine


def rows(engine: Engine, query: str) -> list[Any]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query.replace(":", "\\:"))).mappings()]


def test_the_documents_ten_questions_have_answers(filled: Engine) -> None:
    answers = {number: rows(filled, query) for number, query in QUESTIONS}

    assert list(answers) == [str(number) for number in range(1, 11)]
    assert [number for number, found in answers.items() if not found] == []
    assert all(0 < row["percent_positive"] < 100 or row["studies"] < 20 for row in answers["5"])
    assert sum(row["studies"] for row in answers["9"]) == 400
    (good,) = [row for row in answers["7"] if row["labelled"] > 10]
    assert 50 < good["specificity"] <= 100
    assert all(row["median"] <= row["p95"] for row in answers["3"])


def test_both_databases_answer_alike(filled: Engine) -> None:
    (row,) = rows(filled, "SELECT * FROM results WHERE study_instance_uid = '1.2.840.99999.1'")

    # The generator's numbers: complete at 00:28, finished between 3 and 10 s later.
    assert (row["is_last"], row["finished_on"], row["wait_s"]) == (1, "2021-01-01", 1.0)
    assert 3 <= row["seconds"] <= 10
    (delivery,) = rows(filled, "SELECT * FROM results_deliveries ORDER BY id LIMIT 1")
    assert delivery["seconds"] == 13.0


def test_a_corrected_report_is_told_with_its_reader(filled: Engine) -> None:
    with transaction(filled) as session:
        session.get_one(Analysis, 1).reading = {"reader": "dr.x", "value": "negative", "remark": ""}

    found = rows(filled, "SELECT corrected, corrected_by FROM results ORDER BY complete_at")

    assert [tuple(row.values()) for row in found[:2]] == [("negative", "dr.x"), (None, None)]


def test_every_view_is_described_with_all_its_columns(engine: Engine) -> None:
    lines = DOCUMENT.splitlines()
    documented = {name: line for name in VIEWS for line in lines if line.startswith(f"| `{name}` ")}

    assert set(documented) == set(VIEWS)
    study = {"study_instance_uid", "patient_id", "patient_name", "patient_birth_date", "patient_sex"}
    study |= {"accession_number", "study_date", "study_description", "calling_ae_title"}
    for name, line in documented.items():
        columns = {str(column["name"]) for column in inspect(engine).get_columns(name)}
        missing = {column for column in columns if not re.search(rf"\b{column}\b", line)}
        assert missing <= (study if name == "results_studies" else set()), name


def test_a_reading_role_sees_the_views_and_no_table_and_keeps_that_over_an_upgrade(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no roles")
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS reporting"))
        connection.execute(text("CREATE ROLE reporting"))
        grant(connection, "reporting")

    for _ in range(2):
        with engine.connect() as connection:
            connection.execute(text("SET ROLE reporting"))
            assert connection.scalar(text("SELECT count(*) FROM results")) == 0
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text("SELECT * FROM accounts"))
        with engine.begin() as connection:  # what an upgrade does
            make_views(connection, drop_views(connection))
    with engine.begin() as connection:
        connection.execute(text("DROP OWNED BY reporting; DROP ROLE reporting"))


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is absent: apt install postgresql-client")
def test_the_reading_role_has_the_ten_answers_in_psql(filled: Engine) -> None:
    if filled.dialect.name != "postgresql":
        pytest.skip("psql speaks to PostgreSQL")
    with filled.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS asking; CREATE ROLE asking LOGIN"))
        grant(connection, "asking")
    url = filled.url.set(drivername="postgresql", username="asking").render_as_string(hide_password=False)

    def psql(query: str) -> "subprocess.CompletedProcess[str]":
        command = ["psql", url, "--no-psqlrc", "--tuples-only", "--set=ON_ERROR_STOP=1", f"--command={query}"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    answers = {number: psql(query) for number, query in QUESTIONS}
    table = psql("SELECT * FROM studies")
    change = psql("DELETE FROM labels")

    assert {number: done.stderr for number, done in answers.items() if done.returncode} == {}
    assert [number for number, done in answers.items() if not done.stdout.strip()] == []
    assert ("permission denied" in table.stderr, "permission denied" in change.stderr) == (True, True)
    with filled.begin() as connection:
        connection.execute(text("DROP OWNED BY asking; DROP ROLE asking"))


def test_views_that_were_made_anew_follow_the_tables(engine: Engine) -> None:
    with engine.begin() as connection:
        drop_derived(connection)
        make_derived(connection, ())

    with transaction(engine) as session:
        fill_one(session)
    assert len(rows(engine, "SELECT * FROM results_studies")) == 1


def fill_one(session: Any) -> None:
    session.add(Study(study_instance_uid="1.2", created_at=NOON, changed_at=NOON))


def test_a_name_cannot_be_sql(engine: Engine) -> None:
    name = "Robert'); DROP TABLE studies;--"
    with transaction(engine) as session:
        fill_one(session)
        session.query(Study).one().patient_name = name

    assert rows(engine, "SELECT patient_name FROM results_studies")[0]["patient_name"] == name
