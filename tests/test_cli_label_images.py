"""Labelled studies leave with images, labels and a manifest that a trainer elsewhere reads."""

import json
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from db.label_file import read_label_file
from db.label_policy import Opinion
from db.labels import set_label
from db.models import AuditEvent, LabelSource, LabelValue
from db.queries import get_study
from db.session import transaction
from db.test_sets import Draw, freeze
from lungnode.phantom import Patient, phantom_study
from lungnode.settings import Settings
from tests.databases import new_sqlite
from tests.nodes import command, variables
from tests.spooling import NOON, ClerkNode
from trainer.grays import load_gray
from trainer.manifest import read_manifest
from trainer.samples import Split

POSITIVE = Opinion(LabelValue.POSITIVE, LabelSource.RT_PCR, labelled_on="2026-01-15", symptomatic=True)
NEGATIVE = Opinion(LabelValue.NEGATIVE, LabelSource.READER, "Dr. Marker", labelled_on="2026-02-15")
PATIENTS = ("HX4710", "HX4711", "HX4712", "HX4713")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClerkNode]:
    """A node with four labelled studies, and one without a label."""
    settings = Settings(data=tmp_path / "data")
    engine = new_sqlite(settings.database)
    node = ClerkNode(engine, settings)
    for seed, patient in enumerate((*PATIENTS, "HX4714")):
        node.receive(*_phantom(tmp_path, seed, patient), name=f"a{seed}")
    node.rounds_after(200)
    uids = {study.patient_id: uid for uid, study in node.studies().items()}
    with transaction(engine) as session:
        for patient, opinion in zip(PATIENTS, (POSITIVE, POSITIVE, NEGATIVE, NEGATIVE), strict=True):
            set_label(session, get_study(session, uids[patient]), opinion, NOON)
    yield node
    engine.dispose()


def _phantom(folder: Path, seed: int, patient: str) -> list[Dataset]:
    who = Patient(f"Marker^{seed}", patient)
    paths = phantom_study(folder / f"phantom{seed}", 12, seed=seed, size=128, patient=who).paths
    return [dcmread(path) for path in paths]


def run(node: ClerkNode, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = command(node.settings.data, *map(str, arguments))
    return subprocess.run(line, env=variables(), capture_output=True, text=True, check=False, timeout=120)


def test_labelled_images_leave_for_a_trainer_elsewhere(node: ClerkNode, tmp_path: Path) -> None:
    with transaction(node.engine) as session:
        frozen = freeze(session, "first", Draw(0.5, 0, "rt-pcr-first"), NOON)
    out = tmp_path / "out"

    result = run(node, "labels", "export", "--images", out)

    assert (result.returncode, result.stderr) == (0, "")
    assert f"48 de-identified images of 4 studies are in {out}." in result.stdout
    samples = read_manifest(out / "manifest.csv")
    studies = {sample.study for sample in samples}
    assert studies == {path.name for path in out.iterdir() if path.is_dir()}
    assert len({sample.group for sample in samples}) == 4
    assert {sample.label for sample in samples} == {"positive", "negative"}
    assert len({s.study for s in samples if s.split == Split.TEST}) == len(frozen.studies) > 0
    assert load_gray(samples[0]).shape == (128, 128)
    assert samples[0].attributes["manufacturer"] == "LUNGNODE"
    assert {sample.attributes["rt_pcr"] for sample in samples if sample.positive} == {"positive"}
    assert all(sample.position_mm is not None for sample in samples)
    text = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert [word for word in (b"HX471", b"Marker", b"2026-0", b"20200401") if word in text] == []


def test_labels_leave_under_new_names_and_with_moved_dates(node: ClerkNode, tmp_path: Path) -> None:
    result = run(node, "labels", "export", "--images", tmp_path / "out", "--json")

    rows = read_label_file(tmp_path / "out/labels.csv")
    assert rows.problems == ()
    assert sorted(line.opinion.value for line in rows.lines) == [
        "negative",
        "negative",
        "positive",
        "positive",
    ]
    assert len({line.opinion.reader for line in rows.lines if line.opinion.source == "reader"}) == 1
    for line in rows.lines:
        first = next((tmp_path / "out" / line.identifiers["study_instance_uid"]).iterdir())
        study_day = date.fromisoformat(dcmread(first).StudyDate)
        labelled = {"rt-pcr": date(2026, 1, 15), "reader": date(2026, 2, 15)}[line.opinion.source]
        assert date.fromisoformat(line.opinion.labelled_on) - study_day == labelled - date(2020, 4, 1)
    assert len(json.loads(result.stdout)["studies"]) == 4
    events = [event.action for event in node.rows(AuditEvent) if "exported" in event.action]
    assert events == ["studies exported"] * 4 + ["labels exported"]


def test_names_leave_only_when_that_is_asked_for(node: ClerkNode, tmp_path: Path) -> None:
    result = run(node, "labels", "export", "--images", tmp_path / "out", "--identified")

    assert (result.returncode, result.stdout) == (0, f"48 files as received are in {tmp_path / 'out'}.\n")
    assert "Dr. Marker" in (tmp_path / "out/labels.csv").read_text()
    assert len(read_manifest(tmp_path / "out/manifest.csv")) > 0


def test_a_study_without_a_verdict_of_its_labels_leaves_and_is_in_no_list(
    node: ClerkNode, tmp_path: Path
) -> None:
    contrary = Opinion(LabelValue.POSITIVE, LabelSource.READER, "Dr. Other")
    (uid,) = (uid for uid, study in node.studies().items() if study.patient_id == "HX4713")
    with transaction(node.engine) as session:
        set_label(session, get_study(session, uid), contrary, NOON)

    result = run(node, "labels", "export", "--images", tmp_path / "out")

    assert result.returncode == 0
    assert f"Study {uid} is not in manifest.csv: " in result.stderr
    assert len({sample.study for sample in read_manifest(tmp_path / "out/manifest.csv")}) == 3
    assert len(read_label_file(tmp_path / "out/labels.csv").lines) == 5
