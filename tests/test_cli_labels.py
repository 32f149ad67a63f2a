import csv
import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from db.models import AuditEvent, RegisteredModel, Study, StudyState
from db.session import open_engine, transaction
from lungnode.settings import Settings
from tests.command_line import CommandLine, Result
from tests.databases import new_sqlite

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
Run = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a node that holds twelve studies of six patients."""
    folder = tmp_path / "data"
    engine = new_sqlite(Settings(data=folder).database)
    with transaction(engine) as session:
        for number in range(12):
            study = Study(study_instance_uid=f"1.2.{number}", patient_id=f"P{number // 2}", created_at=NOON)
            study.accession_number, study.study_date = f"A{number}", f"202601{number + 1:02}"
            study.changed_at, study.state = NOON, StudyState.COMPLETE
            session.add(study)
    engine.dispose()
    return folder


@pytest.fixture
def lungnode(command_line: CommandLine, data: Path) -> Run:
    return partial(command_line.run, data)


def actions(data: Path) -> list[str]:
    engine = open_engine(Settings(data=data).database)
    with transaction(engine) as session:
        found = list(session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)))
    engine.dispose()
    return found


EXCEL = (
    "Patient ID;Studies;Label;Source;Reader;Date;Symptomatic\r\n"
    "P0;all;positive;rt-pcr;;2026-01-02;no\r\n"
    "P1;all;positive;rt-pcr;;2026-01-03;yes\r\n"
    "P2;all;negative;rt-pcr;;2026-01-04;\r\n"
    "P3;all;negative;rt-pcr;;2026-01-05;\r\n"
)


def test_labels_go_from_a_spreadsheet_to_a_frozen_test_set(lungnode: Run, data: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "labels.csv"
    sheet.write_bytes(EXCEL.encode("utf-8-sig"))

    rehearsed = lungnode("labels", "import", sheet, "--dry-run")
    assert (rehearsed.returncode, actions(data)) == (0, [])
    assert "8 labels added, 0 updated, 0 unchanged" in rehearsed.stdout
    assert lungnode("labels", "import", sheet, "--json").document["added"] == 8
    assert lungnode("labels", "import", sheet, "--json").document["unchanged"] == 8

    frozen = lungnode("labels", "freeze", "2026", "--share", "0.5", "--seed", "3", "--json").document
    (held,) = frozen["test_sets"]
    assert (held["patients"], held["studies"], held["positive"], held["negative"]) == (2, 4, 2, 2)
    again = lungnode("labels", "freeze", "2026")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == "lungnode: The test set 2026 is frozen already; a new one needs another name.\n"

    (shown,) = lungnode("labels", "frozen", "2026", "--json").document["test_sets"]
    lines = sorted(f"{each['study_instance_uid']} {each['label']}\n" for each in shown["members"])
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == shown["digest"] == held["digest"]
    uid = shown["members"][0]["study_instance_uid"]
    refused = lungnode("studies", "delete", uid, "--yes")
    assert (refused.returncode, "in the frozen test set 2026" in refused.stderr) == (1, True)
    assert lungnode("studies", "delete", uid, "--yes", "--force").returncode == 0
    broken = lungnode("labels", "frozen")
    assert (broken.returncode, "not what was frozen" in broken.stderr) == (1, True)
    assert actions(data) == ["labels imported", "labels imported", "test set frozen", "study deleted"]


def test_an_export_is_imported_elsewhere_as_it_was(lungnode: Run, tmp_path: Path) -> None:
    sheet, copy = tmp_path / "labels.csv", tmp_path / "copy.csv"
    sheet.write_bytes(EXCEL.encode())
    lungnode("labels", "import", sheet)
    lungnode("labels", "set", "1.2.9", "uncertain", "--source", "reader", "--reader", 'Döe, "J."')

    printed = lungnode("labels", "export").stdout
    assert lungnode("labels", "export", copy).stdout == f"9 labels are in {copy}.\n"

    assert copy.read_text() == printed
    assert [row["label"] for row in csv.DictReader(io.StringIO(printed))].count("positive") == 4
    assert "P0" not in printed
    assert lungnode("labels", "import", copy, "--json").document["unchanged"] == 9
    for row in csv.DictReader(io.StringIO(printed)):
        lungnode("labels", "delete", row["study_instance_uid"], "--yes")
    assert lungnode("labels", "import", copy, "--json").document["added"] == 9
    assert lungnode("labels", "export").stdout == printed
    taken = lungnode("labels", "export", copy)
    assert (taken.returncode, taken.stderr) == (
        1, f"lungnode: {copy} exists already; export into a new file.\n",
    )  # fmt: skip


def test_one_bad_line_leaves_everything_unwritten_and_each_is_named(
    lungnode: Run, data: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "labels.csv"
    sheet.write_text("patient_id,label,colour\nP9,pos,red\nP0,pos,red\nP1,?,red\n")

    result = lungnode("labels", "import", sheet)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "The column colour means nothing here and is not read.",
        "Line 2: there is no study with Patient ID P9.",
        "Line 3: Patient ID P0 fits 2 studies, 1.2.0, 1.2.1; give study_instance_uid or study_date, or say "
        "all in a column studies.",
        "Line 4: label is one of positive, negative, uncertain, got '?'.",
        f"lungnode: Nothing was written: {sheet} has 3 lines that cannot be used.",
    ]
    told = lungnode("labels", "import", sheet, "--json").document
    assert (len(told["problems"]), told["updates"], actions(data)) == (3, [], [])


def test_labels_of_unknown_studies_are_left_out_on_request_and_counted(lungnode: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "labels.csv"
    sheet.write_text("accession_number,label\nA0,pos\nA99,pos\n")

    result = lungnode("labels", "import", sheet, "--skip-unknown")

    assert result.returncode == 0
    assert result.stderr == "Line 3: there is no study with Accession Number A99.\n"
    assert result.stdout == "1 labels added, 0 updated, 0 unchanged; 1 of unknown studies skipped.\n"


def test_an_update_says_what_it_changes(lungnode: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "labels.csv"
    lungnode("labels", "set", "1.2.0", "positive", "--source", "clinical")
    sheet.write_text("study_instance_uid,label\n1.2.0,negative\n")

    printed = lungnode("labels", "import", sheet, "--source", "clinical").stdout

    assert printed.startswith("Line 2: study 1.2.0, clinical: positive becomes negative.\n")
    told = lungnode("labels", "set", "1.2.0", "positive", "--source", "clinical").stdout
    assert told == "The label of study 1.2.0 is updated: positive, clinical.\n"


def test_a_study_is_shown_with_its_labels(lungnode: Run) -> None:
    lungnode("labels", "set", "1.2.0", "pos", "--source", "reader", "--reader", "a [b]", "--asymptomatic")

    (label,) = lungnode("studies", "show", "1.2.0", "--json").document["labels"]

    assert label == {
        "label": "positive", "source": "reader", "reader": "a [b]", "date": "", "symptomatic": False,
    }  # fmt: skip
    assert "labelled positive, reader, a [b]\n" in lungnode("studies", "show", "1.2.0").stdout


def test_conflicts_are_listed_with_their_reason_under_the_policy_that_is_named(lungnode: Run) -> None:
    for reader, value in (("a", "positive"), ("b", "negative")):
        lungnode("labels", "set", "1.2.0", value, "--source", "reader", "--reader", reader)
        lungnode("labels", "set", "1.2.1", "positive", "--source", "reader", "--reader", reader)

    table = lungnode("labels", "list", "--conflicts").stdout
    (study,) = lungnode("labels", "list", "--conflicts", "--json").document["studies"]
    settled = lungnode("labels", "list", "--conflicts", "--policy", "majority", "--json").document
    lungnode("labels", "set", "1.2.0", "positive", "--source", "rt-pcr", "--date", "2026-01-02")

    assert "conflict: reader is tied: 1 positive, 1 negative" in table
    assert "By rt-pcr-first: 1 positive, 0 negative, 1 in conflict, 0 undecided" in table
    assert [(each["reader"], each["label"]) for each in study["labels"]] == [
        ("a", "positive"),
        ("b", "negative"),
    ]
    assert settled["studies"][0]["conflict"] == "majority is tied: 1 positive, 1 negative"
    after = lungnode("labels", "list", "--json").document
    assert after["counts"] == {"positive": 2, "negative": 0, "conflict": 0, "undecided": 0, "overruled": 1}
    wrong = lungnode("labels", "list", "--policy", "loudest")
    assert (wrong.returncode, "there are rt-pcr-first," in wrong.stderr) == (1, True)


def test_a_freeze_after_the_first_training_says_who_may_have_seen_its_patients(
    lungnode: Run, data: Path, tmp_path: Path
) -> None:
    engine = open_engine(Settings(data=data).database)
    with transaction(engine) as session:
        session.add(RegisteredModel(name="m", version="1", digest="d", path="m-1", created_at=NOON))
    engine.dispose()
    sheet = tmp_path / "labels.csv"
    sheet.write_bytes(EXCEL.encode())
    lungnode("labels", "import", sheet)

    assert lungnode("labels", "freeze", "2026").stderr.startswith("Models are registered already:")


def test_studies_that_wait_for_a_label_are_listed(lungnode: Run) -> None:
    for uid in ("1.2.0", "1.2.1"):
        lungnode("labels", "set", uid, "negative", "--source", "clinical")

    studies = lungnode("labels", "list", "--unlabelled", "--json").document["studies"]

    assert len(studies) == 10
    assert {study["study_instance_uid"] for study in studies}.isdisjoint({"1.2.0", "1.2.1"})


def test_a_label_is_deleted_only_when_that_is_confirmed(lungnode: Run, data: Path) -> None:
    lungnode("labels", "set", "1.2.0", "positive", "--source", "reader", "--reader", "a")
    lungnode("labels", "set", "1.2.0", "positive", "--source", "reader", "--reader", "b")

    assert lungnode("labels", "delete", "1.2.0", "--reader", "a", answer="n\n").returncode == 1
    assert lungnode("labels", "delete", "1.2.0", "--reader", "c", "--yes").returncode == 1
    assert actions(data) == ["label set", "label set"]

    assert lungnode("labels", "delete", "1.2.0", "--reader", "a", answer="y\n").returncode == 0
    (study,) = lungnode("labels", "list", "--json").document["studies"]
    assert [each["reader"] for each in study["labels"]] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("set", "1.2.0", "maybe", "--source", "reader"), 2, "label is one of positive"),
        (("set", "1.2.0", "pos", "--source", "reader"), 2, "needs the reader's name"),
        (("set", "1.2.0", "pos", "--source", "pcr", "--date", "1.2.2026"), 2, "YYYY-MM-DD"),
        (("set", "1.9", "pos", "--source", "pcr"), 1, "lungnode: There is no study 1.9."),
        (("import", "missing.csv"), 1, "lungnode: The labels missing.csv cannot be read: No such file"),
        (("import", "missing.csv", "--source", "rumour"), 2, "the sources are rt-pcr, reader"),
        (("freeze", "2026"), 1, "lungnode: A test set needs at least 2 positive patients"),
        (("freeze", ""), 1, "lungnode: A test set cannot be called ''"),
        (("freeze", "../2026"), 1, "lungnode: A test set cannot be called '../2026'"),
        (("frozen", "2026"), 1, "lungnode: There is no test set 2026; frozen are: none yet."),
        (("list", "--conflicts", "--unlabelled"), 2, "not both"),
    ],
)
def test_wrong_use_is_one_sentence(
    lungnode: Run, data: Path, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    result = lungnode("labels", *arguments)

    assert (result.returncode, result.stdout) == (code, "")
    assert complaint in result.stderr
    assert actions(data) == []
