from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import evt
from pynetdicom.dsutils import decode

from db.models import AuditEvent
from db.session import transaction
from lungnode.phantom import Patient, PhantomStudy, phantom_study
from tests.command_line import CommandLine, Result
from tests.databases import new_sqlite
from tests.query_peers import dcmtk_pacs, getting_pacs, stored
from tests.spooling import STUDY

CONFIG = """
[[peers]]
name = "archive"
ae_title = "PACS"
host = "127.0.0.1"
port = {port}
query = "study_root"
retrieve = "{retrieve}"
[[peers]]
name = "patients first"
ae_title = "PACS"
host = "127.0.0.1"
port = {port}
query = "patient_root"
retrieve = "get"
[[destinations]]
name = "results"
ae_title = "PACS"
host = "127.0.0.1"
port = {port}
"""


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[PhantomStudy]:
    """Two studies of one patient."""
    patient, folder = Patient(patient_id="P-1"), tmp_path_factory.mktemp("studies")
    return [phantom_study(folder / str(seed), 3, False, seed, patient=patient) for seed in (1, 2)]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, studies: list[PhantomStudy]) -> Iterator[int]:
    with dcmtk_pacs(tmp_path_factory.mktemp("dcmtk")) as pacs:
        pacs.keep(*(path for study in studies for path in study.paths))
        yield pacs.port


class Pull:
    """`lungnode pull --from archive` with an empty data folder."""

    def __init__(self, line: CommandLine, folder: Path, port: int) -> None:
        self.line, self.folder, self.port = line, folder, port

    def __call__(self, *arguments: str, source: str = "archive", retrieve: str = "get") -> Result:
        """Run it."""
        config = self.folder / "lungnode.toml"
        config.write_text(CONFIG.format(port=self.port, retrieve=retrieve))
        return self.line.run(
            self.folder / "data", "pull", "--from", source, *arguments, "--config", str(config)
        )

    def pulled(self) -> set[str]:
        """The studies that lie in the spool."""
        return {str(dcmread(path).StudyInstanceUID) for path in (self.folder / "data").rglob("*.dcm")}


@pytest.fixture
def pull(command_line: CommandLine, tmp_path: Path, port: int) -> Pull:
    return Pull(command_line, tmp_path, port)


def test_a_study_is_fetched_by_its_uid(pull: Pull, studies: list[PhantomStudy]) -> None:
    uid = studies[0].study_instance_uid

    result = pull("--study", uid)

    assert (result.returncode, result.stdout) == (0, f"Study {uid}: 3 instances fetched.\n")
    assert pull.pulled() == {uid}


def test_what_was_fetched_is_one_json_document(pull: Pull, studies: list[PhantomStudy]) -> None:
    result = pull("--accession", "PH2", "--json")

    (record,) = result.document["studies"]
    assert (record["study_instance_uid"], record["completed"]) == (studies[1].study_instance_uid, 3)
    assert (record["failed"], record["warning"], record["reason"]) == (0, 0, "")


def test_of_several_studies_none_is_fetched_unasked(pull: Pull, studies: list[PhantomStudy]) -> None:
    result = pull("--patient", "P-1")

    assert result.returncode == 1
    assert all(study.study_instance_uid in result.stdout for study in studies)
    assert "2 studies match: say more of the one you want, or --all." in result.stderr
    assert len(pull("--patient", "P-1", "--json").document["matches"]) == 2
    assert pull.pulled() == set()


def test_all_that_match_are_fetched_when_asked_for(pull: Pull, studies: list[PhantomStudy]) -> None:
    result = pull("--patient", "P-1", "--all")

    assert result.returncode == 0
    assert pull.pulled() == {study.study_instance_uid for study in studies}


def test_patients_come_first_where_the_model_says_so(pull: Pull, studies: list[PhantomStudy]) -> None:
    uid = studies[0].study_instance_uid

    alone = pull("--study", uid, source="patients first")
    both = pull("--study", uid, "--patient", "P-1", source="patients first")

    assert (alone.returncode, both.returncode) == (2, 0)
    assert "say --patient" in " ".join(alone.stderr.split())
    assert pull.pulled() == {uid}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--study", "1.2.3"), 1, "Peer archive has no study of this StudyInstanceUID."),
        (("--study", "1.2.x"), 2, "a UID has digits and dots"),
        (("--date", "today"), 2, "a date is YYYYMMDD"),
        ((), 2, "Say which study"),
    ],
)
def test_a_wrong_request_is_a_sentence(
    pull: Pull, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    result = pull(*arguments)

    assert result.returncode == code
    assert sentence in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nobody", "The settings name no peer 'nobody'; there are: results, archive, patients first."),
        ("results", 'Peer results may not be fetched from: set its query = "study_root"'),
    ],
)
def test_a_peer_must_be_known_and_allow_it(pull: Pull, source: str, sentence: str) -> None:
    result = pull("--study", "1.2.3", source=source)

    assert result.returncode == 2
    assert sentence in result.stderr


def test_a_pacs_that_does_not_know_us_fails_the_command(pull: Pull, studies: list[PhantomStudy]) -> None:
    result = pull("--study", studies[0].study_instance_uid, retrieve="move")

    assert result.returncode == 1
    assert (
        "It does not know us as a destination; enter our AE title, address and port there." in result.stderr
    )


def test_what_could_not_be_sent_is_counted_and_fails_the_command(
    command_line: CommandLine, tmp_path: Path
) -> None:
    def handler(_: evt.Event) -> Iterator[Any]:
        yield 2
        yield 0xFF00, stored(1)
        yield 0xFF00, stored(2, SOPClassUID="1.2.3.4")  # no context for it

    with getting_pacs(handler) as pacs:
        pull = Pull(command_line, tmp_path, pacs.port)
        words = pull("--study", STUDY)
        document = pull("--study", STUDY, "--json")

    assert (words.returncode, words.stdout) == (1, f"Study {STUDY}: 1 instances fetched, 1 failed.\n")
    assert "Peer archive could not send all of it; its log may say why. Try again." in words.stderr
    (record,) = document.document["studies"]
    assert (document.returncode, record["completed"], record["failed"]) == (1, 1, 1)


def test_a_question_is_in_the_audit_trail_as_it_was_sent(pull: Pull) -> None:
    engine = new_sqlite(f"sqlite:///{pull.folder / 'data/lungnode.sqlite3'}")

    pull("--patient", "P-1")

    with transaction(engine) as session:
        (event,) = session.query(AuditEvent)
    engine.dispose()
    assert (event.action, event.details) == (
        "peer queried",
        {"peer": "PACS@127.0.0.1", "by": ["PatientID"]},
    )
    (asked,) = (event.draft or {})["things"]
    identifier = decode(BytesIO(b64decode(asked["query"])), True, True)
    assert (identifier.QueryRetrieveLevel, identifier.PatientID) == ("STUDY", "P-1")
