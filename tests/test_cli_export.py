"""Exports of the archive through the command line."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from db.models import AuditEvent
from lungnode.settings import Settings
from tests.databases import new_sqlite
from tests.nodes import command, variables, wait_for
from tests.spooling import STUDY, ClerkNode, ct, slices

OTHER = "1.2.840.99999.2"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClerkNode]:
    """A node on its defaults with two complete studies of one patient."""
    settings = Settings(data=tmp_path / "data")
    engine = new_sqlite(settings.database)
    node = ClerkNode(engine, settings)
    node.receive(*slices(range(1, 5), PatientID="HX4711"))
    node.receive(*slices(range(1, 3), OTHER, PatientID="HX4711", StudyDate="20260312"), name="a2")
    node.rounds_after(200)
    yield node
    engine.dispose()


def run(node: ClerkNode, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = command(node.settings.data, *map(str, arguments))
    return subprocess.run(line, env=variables(), capture_output=True, text=True, check=False, timeout=120)


def test_studies_leave_without_a_trace_of_the_patient(node: ClerkNode, tmp_path: Path) -> None:
    before = node.archived()

    result = run(node, "studies", "export", STUDY, OTHER, tmp_path / "out", "--deidentified")

    assert (result.returncode, result.stderr) == (0, "")
    assert f"6 de-identified images of 2 studies are in {tmp_path / 'out'}." in result.stdout
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    copies = [dcmread(path) for path in files]
    assert len(copies) == 6
    assert [path.parent.name for path in files] == [copy.StudyInstanceUID for copy in copies]
    (pseudonym,) = {copy.PatientID for copy in copies}
    found = [
        word
        for path in files
        for word in (b"Doe", b"HX4711", b"20260305", STUDY.encode())
        if word in path.read_bytes()
    ]
    assert found == []
    assert pseudonym in (next((node.settings.data / "deidentification").glob("2.25.*.json"))).read_text()
    assert node.archived() == before


def test_each_study_that_leaves_is_in_the_audit_table(node: ClerkNode, tmp_path: Path) -> None:
    """A second call finds the first one's copy and makes none."""
    exports: list[tuple[str | Path, ...]] = [
        (STUDY, OTHER, tmp_path / "out", "--deidentified"),
        (OTHER, tmp_path / "out", "--deidentified"),
        (STUDY, tmp_path / "received"),
    ]
    for arguments in exports:
        assert run(node, "studies", "export", *arguments).returncode == 0

    events = [event for event in node.rows(AuditEvent) if event.action == "studies exported"]
    assert [(event.action, event.subject, event.details["deidentified"]) for event in events] == [
        ("studies exported", STUDY, True),
        ("studies exported", OTHER, True),
        ("studies exported", STUDY, False),
    ]
    assert "HX4711" not in str([event.details for event in events])


def test_an_instance_that_cannot_leave_is_named_and_the_others_go_on(node: ClerkNode, tmp_path: Path) -> None:
    node.receive(ct(9, OTHER, BurnedInAnnotation="YES"), name="a3")
    (node.settings.archive / STUDY / f"{STUDY}.1.2.dcm").write_bytes(b"no DICOM")

    result = run(
        node, "studies", "export", "1.2.9", OTHER, STUDY, tmp_path / "out", "--deidentified", "--json"
    )

    document = json.loads(result.stdout)
    assert result.returncode == 1
    assert [(study["instances"], len(study["left_out"])) for study in document["studies"]] == [(2, 1), (3, 1)]
    assert result.stderr.splitlines() == document["failures"]
    assert document["failures"][0] == "There is no study 1.2.9."
    assert f"{OTHER}.1.9.dcm was left out: Burned In Annotation is YES" in document["failures"][1]
    assert f"{STUDY}.1.2.dcm was left out: " in document["failures"][2]


@pytest.mark.parametrize(
    ("folder", "option", "code", "sentence"),
    [
        ("data/out", "--verify", 1, "lies in the node's own folder"),
        ("out", "--results", 2, "--deidentified has none"),
    ],
)
def test_an_export_that_would_mix_both_worlds_is_refused(
    node: ClerkNode, tmp_path: Path, folder: str, option: str, code: int, sentence: str
) -> None:
    result = run(node, "studies", "export", STUDY, tmp_path / folder, "--deidentified", option)

    assert (result.returncode, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert not (tmp_path / folder).exists()


def test_several_studies_as_received_have_a_folder_each(node: ClerkNode, tmp_path: Path) -> None:
    result = run(node, "studies", "export", STUDY, OTHER, tmp_path / "out")

    assert (result.returncode, result.stdout) == (0, f"6 files are in {tmp_path / 'out'}.\n")
    assert len(list((tmp_path / "out" / OTHER).iterdir())) == 2


def test_an_export_that_is_killed_leaves_no_study_and_the_next_one_goes_on(
    node: ClerkNode, tmp_path: Path
) -> None:
    big = "1.2.840.99999.3"
    node.receive(*slices(range(1, 200), big), name="a4")
    node.rounds_after(200)
    out, slow = tmp_path / "out", node.settings.archive / big / f"{big}.1.150.dcm"
    whole = slow.read_bytes()
    slow.unlink()
    os.mkfifo(slow)  # into which nobody writes: the export gets no further
    line = command(node.settings.data, "studies", "export", STUDY, big, str(out), "--deidentified")

    with subprocess.Popen(line, env=variables(), stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: len(list(out.glob(".*/*"))) > 20, 60, "copies of the second study")
        finally:
            process.kill()
    slow.unlink()
    slow.write_bytes(whole)
    (first,) = [path for path in out.iterdir() if not path.name.startswith(".")]
    made = {path: path.stat().st_mtime_ns for path in first.iterdir()}

    result = run(node, "studies", "export", STUDY, big, out, "--deidentified")

    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(len(list(path.iterdir())) for path in out.iterdir()) == [4, 199]
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == made
