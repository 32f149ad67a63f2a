"""The whole circle on small data: studies arrive, get labels, train a model that analyses the next study.

The node is `lungnode up` on embedded defaults with a stand-in PACS; everything else is said at its command
line. The tests are the chapters of one story and run in their order.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from db.models import Analysis, Study
from db.session import open_engine, transaction
from lungnode.cli._sender import send
from lungnode.model_folder import SHIPPED_MODEL, describe_model
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.phantom.study import Patient
from lungnode.settings import DicomDestination
from tests.command_line import CommandLine, Result
from tests.nodes import children, lungnode, stop, variables, wait_for

SETTINGS = """
[receiver]
host = "127.0.0.1"
port = 0
[clerk]
poll_s = 0.2
quiet_s = 1.0
gap_quiet_s = 1.0
sweep_s = 1.0
[[destinations]]
name = "PACS"
ae_title = "STANDIN"
host = "127.0.0.1"
port = {pacs}
[[rules]]
name = "for training"
calling_ae_title = "COLLECTION"
analyse = false
"""
# A network of 64 x 64 that trains within seconds; it need not become good to be promoted and taken back.
RECIPE = """
name = "small"
[input]
size = 64
crop = "lung"
[network]
topology = "v1.5"
init = "random"
stages = [1, 2]
frozen = 1
[data]
validation_share = 0.5
[training]
epochs = 2
batch = 8
"""
PATIENTS = 8  # every second one is sick
SHIPPED = describe_model(SHIPPED_MODEL)


@dataclass
class Story:
    """The node, its PACS, and what has happened so far."""

    data: Path
    folder: Path
    pid: int
    line: CommandLine
    sent: dict[str, PhantomStudy] = field(default_factory=dict)
    candidate: dict[str, Any] = field(default_factory=dict)

    def run(self, *arguments: str | Path) -> Result:
        """Say something at the command line."""
        result = self.line.run(self.data, *arguments)
        assert result.returncode == 0, result.stderr
        return result

    def send(self, study: PhantomStudy, calling: str) -> None:
        """Send a study to the node as a scanner would."""
        port = json.loads((self.data / "receiver.json").read_text())["port"]
        node = DicomDestination(name="node", ae_title="LUNGNODE", host="127.0.0.1", port=port)
        send(node, calling, study.paths)

    def analysed(self, seed: int) -> tuple[Analysis, Dataset]:
        """Send a new study, and wait for its report at the PACS."""
        uid = self._draw(seed).study_instance_uid
        self.send(self.sent[uid], "SCANNER")
        report = wait_for(lambda: self.report_of(uid), limit_s=120, what="the report")
        with transaction(open_engine(f"sqlite:///{self.data / 'lungnode.sqlite3'}")) as session:
            return session.query(Analysis).join(Study).filter_by(study_instance_uid=uid).one(), report

    def _draw(self, seed: int) -> PhantomStudy:
        patient = Patient(name=f"Patient^{seed}", patient_id=f"ID{seed}")
        study = phantom_study(
            self.folder / str(seed), 12, lesions=seed % 2 == 1, seed=seed, size=128, patient=patient
        )
        self.sent[study.study_instance_uid] = study
        return study

    def collect(self) -> list[PhantomStudy]:
        """Send a study of each patient to the archive."""
        studies = [self._draw(seed) for seed in range(PATIENTS)]
        for study in studies:
            self.send(study, "COLLECTION")
        return studies

    def report_of(self, uid: str) -> Dataset | None:
        """Return the report of a study, once the PACS has it."""
        for path in (self.folder / "pacs").glob("*.dcm"):
            found = dcmread(path, force=True)
            if (found.Modality, found.StudyInstanceUID) == ("SR", uid):
                return found
        return None

    def model_process(self) -> int:
        """Process ID of the worker's child, which holds the model."""
        worker = next(pid for pid, words in children(self.pid).items() if "--queue analysis" in words)
        (child,) = children(worker)
        return child


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("node") / "pacs"
    folder.mkdir()
    standin = subprocess.Popen((sys.executable, "-m", "lungnode.standin", str(folder)), env=variables())
    wait_for((folder / "port.json").exists, what="the stand-in PACS")
    yield folder
    stop(standin)


@pytest.fixture(scope="module")
def story(pacs: Path) -> Iterator[Story]:
    data, config = pacs.parent / "data", pacs.parent / "lungnode.toml"
    data.mkdir()
    config.write_text(SETTINGS.format(pacs=json.loads((pacs / "port.json").read_text())["port"]))
    line = CommandLine()
    with lungnode(data, "up", "--config", str(config), log=pacs.parent / "log") as up:
        wait_for((data / "receiver.json").exists, what="the receiver")
        yield Story(data, pacs.parent, up.pid, line)
    line.close()


def test_studies_arrive_and_get_labels_and_a_part_of_their_patients_is_set_aside(story: Story) -> None:
    studies = story.collect()
    wait_for(lambda: _complete(story) == PATIENTS, limit_s=180, what="all studies")
    lines = [
        f"{study.study_instance_uid},{'positive' if study.lesion_slices else 'negative'},rt-pcr,2026-01-02"
        for study in studies
    ]
    labels = story.folder / "labels.csv"
    labels.write_text("\n".join(["study_instance_uid,label,source,date", *lines]))

    assert story.run("labels", "import", labels, "--json").document["added"] == PATIENTS
    frozen = story.run("labels", "freeze", "first", "--share", "0.5", "--json").document["test_sets"][0]

    assert (frozen["name"], frozen["patients"]) == ("first", PATIENTS // 2)


def _complete(story: Story) -> int:
    return len(story.run("studies", "list", "--state", "complete", "--json").document["studies"])


def test_a_study_is_analysed_with_the_model_that_lungnode_ships(story: Story) -> None:
    row, report = story.analysed(100)

    assert (row.state, row.model_digest) == ("done", SHIPPED.digest)
    assert serial_number(report) == SHIPPED.digest


def test_training_makes_a_candidate_of_the_archive_without_the_patients_set_aside(story: Story) -> None:
    (story.folder / "small.toml").write_text(RECIPE)

    done = story.run("train", "--recipe", story.folder / "small.toml", "--name", "ours", "--json")

    story.candidate = done.document
    run = Path(done.document["run"])
    assert run.parent == story.data / "runs"
    assert len({*(line.split(",")[2] for line in (run / "samples.csv").read_text().splitlines()[1:])}) == 4


def test_promoting_prints_the_comparison_on_the_patients_set_aside(story: Story) -> None:
    # Whether so small a network is worse is chance; a person may promote it all the same, with a reason.
    why = ("--force", "--reason", "demonstration")
    told = story.run("models", "promote", story.candidate["run"], "--test-set", "first", *why).stdout

    assert "test set first: 4 studies, 2 positive, 4 patients" in told
    assert all(words in told for words in ("auc", "DeLong", "McNemar", SHIPPED.name))
    assert f"Model ours {story.candidate['version']} is active; workers take it up by themselves." in told


def test_the_next_study_is_analysed_with_it_by_the_same_process_and_judged_in_the_shadow(
    story: Story,
) -> None:
    process = story.model_process()
    story.run("models", "shadow", SHIPPED.name)

    row, report = story.analysed(101)

    candidate = story.run("models", "show", "--json").document
    assert (row.model_digest, candidate["name"]) == (candidate["digest"], "ours")
    assert serial_number(report) == candidate["digest"] != SHIPPED.digest
    assert device_uid(report) != device_uid(story.report_of(study_of(story, 100)))
    assert story.model_process() == process
    shadowed = wait_for(lambda: _shadowed(story), limit_s=60, what="the shadow")
    assert (shadowed["n"], shadowed["shadow"]["digest"]) == (1, SHIPPED.digest)


def _shadowed(story: Story) -> dict[str, Any] | None:
    report = story.run("models", "shadow", "--report", "--json").document
    return report if report["n"] else None


def test_nothing_of_the_shadow_was_sent(story: Story) -> None:
    found = [dcmread(path, force=True) for path in (story.folder / "pacs").glob("*.dcm")]
    second = study_of(story, 101)

    assert {serial_number(each) for each in found if each.StudyInstanceUID == second} == {
        story.run("models", "show", "--json").document["digest"]
    }


def test_a_rollback_brings_the_first_model_back(story: Story) -> None:
    process = story.model_process()
    assert f"Model {SHIPPED.name}" in story.run("models", "rollback").stdout

    row, report = story.analysed(102)

    assert (row.model_digest, serial_number(report)) == (SHIPPED.digest, SHIPPED.digest)
    assert device_uid(report) == device_uid(story.report_of(study_of(story, 100)))
    assert story.model_process() == process


def study_of(story: Story, seed: int) -> str:
    """Study Instance UID of the phantom of a seed."""
    return next(uid for uid, study in story.sent.items() if study.paths[0].parent.name == str(seed))


def serial_number(instance: Dataset) -> str:
    """SHA-256 of the model that made an instance."""
    return str(instance.ContributingEquipmentSequence[0].DeviceSerialNumber)


def device_uid(report: Dataset | None) -> str:
    """DeviceUID of the model that made a report."""
    assert report is not None
    return str(report.ContributingEquipmentSequence[0].DeviceUID)
