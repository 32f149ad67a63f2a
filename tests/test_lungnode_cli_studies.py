import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from db.models import Analysis, AnalysisState, Delivery, DeliveryState, Inquiry, InquiryKind, InquiryState
from db.session import transaction
from lungnode.settings import Settings
from tests.databases import new_sqlite
from tests.spooling import NOON, STUDY, ClerkNode, ct, slices


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClerkNode]:
    """A node on its defaults with one analysed study that holds a conflict."""
    settings = Settings(data=tmp_path / "data")
    engine = new_sqlite(settings.database)
    node = ClerkNode(engine, settings)
    sender = node.sender().send(*slices(range(1, 5)), ct(1, PixelData=bytes(32)))
    sender.put(lambda path: path.write_text("no DICOM"))
    sender.release()
    node.clerk.round()
    node.rounds_after(200)
    with transaction(engine) as session:
        row = session.get_one(Analysis, 1)
        row.state, row.verdict, row.probability, row.threshold = AnalysisState.DONE, "positive", 0.93, 0.5
        row.phases = {"decode": 1.0, "predict": 4.0}
        row.details = {"choice": ["Series 1 was chosen [of 1]."]}
        end = row.created_at + timedelta(seconds=5.25)
        sent = Delivery(destination="PACS", group="sr", state=DeliveryState.STORED, due_at=end)
        sent.created_at = sent.finished_at = end
        row.deliveries.append(sent)
    yield node
    engine.dispose()


def lungnode(node: ClerkNode, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lungnode", *arguments, "--data", str(node.settings.data)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LUNGNODE_")}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, input=answer, check=False, timeout=60
    )


def test_the_list_is_one_json_document_or_a_table_with_whole_uids(node: ClerkNode) -> None:
    document = json.loads(lungnode(node, "studies", "list", "--json").stdout)
    table = lungnode(node, "studies", "list", "--verdict", "positive").stdout

    (study,) = document["studies"]
    assert (study["study_instance_uid"], study["instances"], study["verdict"]) == (STUDY, 5, "positive")
    assert STUDY in table
    assert "positive 0.930" in table


def test_what_the_source_was_asked_is_shown(node: ClerkNode) -> None:
    answer = {"state": InquiryState.ANSWERED, "present": 4, "expected": 9, "newest": 1, "revision": 1}
    with transaction(node.engine) as session:
        for kind, more in ((InquiryKind.COUNT, answer), (InquiryKind.FETCH, {"reason": "It [hung up]."})):
            values = {"newest": 1, "revision": 1, **more}
            session.add(Inquiry(study_id=1, kind=kind, peer="PACS", due_at=NOON, asked_at=NOON, **values))

    shown = lungnode(node, "studies", "show", STUDY).stdout
    document = json.loads(lungnode(node, "studies", "show", STUDY, "--json").stdout)

    assert "PACS was asked how many images it has: answered, 4 of 9 were here." in shown
    assert "PACS was asked for the missing images: pending. It [hung up]." in shown
    assert [each["expected"] for each in document["questions"]] == [9, None]


def test_an_unknown_state_is_wrong_use(node: ClerkNode) -> None:
    result = lungnode(node, "studies", "list", "--state", "lost")

    assert result.returncode == 2
    assert "receiving, complete" in result.stderr


def test_quarantined_files_are_listed_with_their_reasons(node: ClerkNode) -> None:
    (row,) = json.loads(lungnode(node, "studies", "list", "--quarantined", "--json").stdout)["quarantined"]

    assert "cannot be parsed" in row["reason"]
    assert row["reason"] in lungnode(node, "studies", "list", "--quarantined").stdout


def test_a_study_is_shown_with_choice_and_phases(node: ClerkNode) -> None:
    document = json.loads(lungnode(node, "studies", "show", STUDY, "--json").stdout)
    page = lungnode(node, "studies", "show", STUDY).stdout

    assert document["analyses"][0]["phases"] == {"decode": 1.0, "predict": 4.0}
    assert document["completeness"] == "quiet: no gaps"
    assert [note["disposition"] for note in document["notes"]] == ["conflict"]
    assert "Series 1 was chosen [of 1]." in page
    assert "predict          4.00 s " + "█" * 40 in page
    assert "decode           1.00 s " + "█" * 10 + "\n" in page
    assert "sr   to PACS: stored 5.25 s after completion" in page


def test_an_unknown_study_is_one_sentence_and_exit_code_1(node: ClerkNode) -> None:
    result = lungnode(node, "studies", "show", "1.2.9")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "lungnode: There is no study 1.2.9.\n"


def test_a_node_that_was_never_started_is_told(node: ClerkNode, tmp_path: Path) -> None:
    node.settings = Settings(data=tmp_path / "elsewhere")

    result = lungnode(node, "studies", "list")

    assert result.returncode == 1
    assert result.stderr.startswith("lungnode: There is no database ")
    assert not node.settings.data.exists()


def test_a_study_is_exported_as_it_was_received(node: ClerkNode, tmp_path: Path) -> None:
    result = lungnode(node, "studies", "export", STUDY, str(tmp_path / "out"))

    assert result.returncode == 0
    exported = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert exported == {
        name: (node.settings.archive / STUDY / name).read_bytes()
        for name in (f"{STUDY}.1.{number}.dcm" for number in range(1, 5))
    }
    assert "empty folder" in lungnode(node, "studies", "export", STUDY, str(tmp_path / "out")).stderr


def test_a_study_is_reanalysed_as_revision_2(node: ClerkNode) -> None:
    assert lungnode(node, "studies", "reanalyse", STUDY).returncode == 0

    assert [row.revision for row in node.rows(Analysis)] == [1, 2]


def test_a_study_is_deleted_only_when_that_is_confirmed(node: ClerkNode) -> None:
    assert lungnode(node, "studies", "delete", STUDY, answer="n\n").returncode == 1
    assert node.archived() != {}

    assert lungnode(node, "studies", "delete", STUDY, answer="y\n").returncode == 0
    assert node.archived() == {}
    assert node.studies() == {}


def test_what_trainings_keep_of_a_study_is_deleted_with_it(node: ClerkNode) -> None:
    for study in (STUDY, "1.2.3"):
        (node.settings.cache / "studies" / study / "r1").mkdir(parents=True)
    (node.settings.cache / "file").write_text("")

    assert lungnode(node, "studies", "delete", STUDY, "--yes").returncode == 0

    assert [path.parent.name for path in (node.settings.cache / "studies").rglob("r1")] == ["1.2.3"]


def test_the_index_is_rebuilt_into_a_new_database(node: ClerkNode) -> None:
    node.engine.dispose()
    (node.settings.data / "lungnode.sqlite3").unlink()

    result = lungnode(node, "studies", "reindex", "--json")

    document = json.loads(result.stdout)
    assert document == {"files": 5, "added": 5, "quarantined": 1, "rejected": []}
    assert list(node.studies()) == [STUDY]


def test_the_database_is_upgraded_by_a_command(node: ClerkNode, tmp_path: Path) -> None:
    node.settings = Settings(data=tmp_path / "new")

    result = lungnode(node, "db", "upgrade")

    assert (result.returncode, result.stdout) == (0, "The database is up to date.\n")
    assert (tmp_path / "new/lungnode.sqlite3").exists()
