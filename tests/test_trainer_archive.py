"""Labelled studies of the archive become samples; what cannot is listed with its reason."""

import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
from pydicom import dcmread
from sqlalchemy import Engine

from db.label_policy import Opinion
from db.labels import delete_labels, set_label
from db.models import Disposition, Instance, LabelSource, LabelValue, Study, StudyState
from db.queries import get_study
from db.session import transaction
from db.test_sets import Draw as Share
from db.test_sets import freeze
from lungnode.deidentify.pseudonyms import Pseudonyms
from lungnode.errors import UnusableError
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.store.folder import FolderStore
from trainer.archive import read_archive, select_test_set, select_training
from trainer.cache import Cache
from trainer.dataset import Draw, collect
from trainer.samples import Sample, Split

NOON: Final = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
POSITIVE: Final = Opinion(LabelValue.POSITIVE, LabelSource.RT_PCR, labelled_on="2026-01-01", symptomatic=True)
NEGATIVE: Final = Opinion(LabelValue.NEGATIVE, LabelSource.READER, "A")
PSEUDONYMS = Pseudonyms(bytes(32))
POLICY: Final = "rt-pcr-first"
VALUES: Final = (LabelValue.POSITIVE, LabelValue.NEGATIVE)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=12, size=128)


class Archive:
    """A node's database and archive, filled without receiver and clerk."""

    def __init__(self, engine: Engine, folder: Path, phantom: PhantomStudy) -> None:
        self.engine, self.folder, self._phantom = engine, folder / "archive", phantom
        self.cache = Cache(folder / "cache", 75)

    def add(self, uid: str, patient: str, *opinions: Opinion, paths: Sequence[Path] = ()) -> None:
        """Put a complete study into the archive, with labels; without files of its own it is the phantom."""
        with transaction(self.engine) as session:
            study = Study(study_instance_uid=uid, patient_id=patient, created_at=NOON, changed_at=NOON)
            study.state, study.revision = StudyState.COMPLETE, 1
            study.instances = [self._instance(path, uid) for path in paths or self._phantom.paths]
            session.add(study)
            session.flush()
            for opinion in opinions:
                set_label(session, study, opinion, NOON)

    def _instance(self, path: Path, uid: str) -> Instance:
        (self.folder / uid).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, self.folder / uid / path.name)
        return Instance(
            series_instance_uid=f"{uid}.1",
            sop_instance_uid=f"{uid}.1.{path.stem}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            path=f"{uid}/{path.name}",
            size=path.stat().st_size,
            digest=sha256(path.read_bytes()).hexdigest(),
            revision=1,
            received_at=NOON,
        )

    def training(self) -> tuple[list[Sample], dict[str, str], tuple[str, ...]]:
        """Read what may be trained on: samples, reasons by study, notes."""
        with transaction(self.engine) as session:
            selection = select_training(session, FolderStore(self.folder), POLICY, PSEUDONYMS)
        found = read_archive(selection, self.cache, 1)
        return list(found.samples), {each.what: each.reason for each in found.exclusions}, found.notes


@pytest.fixture
def archive(engine: Engine, tmp_path: Path, phantom: PhantomStudy) -> Archive:
    return Archive(engine, tmp_path, phantom)


def test_the_lung_slices_of_a_labelled_study_are_samples(archive: Archive, phantom: PhantomStudy) -> None:
    archive.add("1.1", "Secret^Id", POSITIVE)
    archive.add("1.2", "other", NEGATIVE)

    samples, reasons, notes = archive.training()

    lung = phantom.last - phantom.first + 1
    assert Counter(sample.study for sample in samples) == {"1.1": lung, "1.2": lung}
    assert not reasons
    assert "lung slices of 2 studies" in notes[0]
    sick, clear = samples[0], samples[-1]
    assert (sick.source, sick.positive, sick.healthy_scan, sick.split) == ("archive", True, False, None)
    assert dict(sick.attributes) == {
        "sex": "O",
        "age": "50-59",  # born in 1970, seen in 2020
        "manufacturer": "LUNGNODE",
        "slice_thickness_mm": f"{float(dcmread(phantom.paths[0]).SliceThickness):g}",
        "symptomatic": "yes",
        "label_source": "rt-pcr",
        "rt_pcr": "positive",
    }
    assert (clear.positive, clear.healthy_scan, clear.attributes["label_source"]) == (False, True, "reader")
    assert "symptomatic" not in clear.attributes
    assert all(sha256(sample.path.read_bytes()).hexdigest() == sample.digest for sample in samples)


def test_samples_name_their_patient_by_no_patient_id(archive: Archive) -> None:
    archive.add("1.1", "Secret^Id", POSITIVE)
    archive.add("1.2", "Secret^Id ", NEGATIVE)
    archive.add("1.3", "other", NEGATIVE)
    archive.add("1.4", "", NEGATIVE)
    archive.add("1.5", "", NEGATIVE)

    samples, _, _ = archive.training()

    groups = {sample.study: sample.group for sample in samples}
    assert groups["1.1"] == groups["1.2"]
    assert len(set(groups.values())) == 4
    assert "Secret" not in repr(samples)


def test_what_cannot_be_trained_on_is_listed_with_its_reason(
    archive: Archive, phantom: PhantomStudy, tmp_path: Path
) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM")
    later = Opinion(LabelValue.NEGATIVE, LabelSource.RT_PCR, labelled_on="2026-01-03")
    archive.add("1.1", "a", POSITIVE)
    archive.add("1.2", "b", POSITIVE, later)
    archive.add("1.3", "c", Opinion(LabelValue.UNCERTAIN, LabelSource.READER, "A"))
    archive.add("1.4", "d", NEGATIVE, paths=[tmp_path / "text.dcm"])
    archive.add("1.5", "e", NEGATIVE, paths=phantom.paths[:3])
    archive.add("1.6", "f")

    samples, reasons, notes = archive.training()

    assert {sample.study for sample in samples} == {"1.1"}
    assert reasons["1.2"].startswith("Its labels are in conflict: rt-pcr contradicts itself")
    assert reasons["1.3"] == "No label decides it under the policy rt-pcr-first."
    assert "text.dcm cannot be read as DICOM" in reasons["1.4"]
    assert "has 3 slices" in reasons["1.5"]
    assert len(reasons) == 4
    assert notes[0].startswith("1 complete studies have no label")


def test_a_frozen_patient_is_never_trained_on_whenever_a_study_arrives(archive: Archive) -> None:
    for number in range(8):
        archive.add(f"1.{number}", f"P{number}", NEGATIVE if number % 2 else POSITIVE)
    with transaction(archive.engine) as session:
        frozen = freeze(session, "2026", Share(0.25), NOON)
    archive.add("2.1", frozen.studies[0].patient, POSITIVE)

    samples, reasons, _ = archive.training()
    with transaction(archive.engine) as session:
        test_set = select_test_set(session, FolderStore(archive.folder), "2026", POLICY, PSEUDONYMS)
    measured = read_archive(test_set, Cache(archive.cache.folder, None), 1).samples

    assert reasons["2.1"] == "Its patient is in a frozen test set."
    assert {sample.study for sample in measured} == {study.study_instance_uid for study in frozen.studies}
    assert {sample.split for sample in measured} == {Split.TEST}
    assert {sample.group for sample in measured}.isdisjoint(sample.group for sample in samples)
    assert {sample.path.suffix for sample in measured} == {".png"}


def test_a_test_set_keeps_the_labels_it_was_frozen_with(archive: Archive) -> None:
    for number in range(4):
        archive.add(f"1.{number}", f"P{number}", NEGATIVE if number % 2 else POSITIVE)
    opposite = {"positive": LabelValue.NEGATIVE, "negative": LabelValue.POSITIVE}
    with transaction(archive.engine) as session:
        frozen = freeze(session, "2026", Share(0.5), NOON)
        for each in frozen.studies:
            later = Opinion(opposite[each.value], LabelSource.RT_PCR, labelled_on="2026-02-01")
            set_label(session, session.get_one(Study, each.study_id), later, NOON)
        selection = select_test_set(session, FolderStore(archive.folder), "2026", POLICY, PSEUDONYMS)

    values = {study.files.study_instance_uid: study.positive for study in selection.studies}
    assert values == {each.study_instance_uid: each.value == "positive" for each in frozen.studies}
    with transaction(archive.engine) as session, pytest.raises(UnusableError, match="no test set 2027"):
        select_test_set(session, FolderStore(archive.folder), "2027", POLICY, PSEUDONYMS)


def test_conflicting_instances_are_not_looked_at(archive: Archive) -> None:
    archive.add("1.1", "a", POSITIVE)
    samples, _, _ = archive.training()
    with transaction(archive.engine) as session:
        instances = session.query(Instance).order_by(Instance.id).all()
        instances[len(instances) // 2].disposition = Disposition.CONFLICT

    fewer, _, _ = archive.training()

    assert len(fewer) == len(samples) - 1


def test_a_data_set_of_the_archive_is_disjoint_and_has_both_classes(archive: Archive, tmp_path: Path) -> None:
    for number in range(8):
        # Every study has pixels of its own: a copy in two splits would be refused.
        made = phantom_study(tmp_path / f"made-{number}", slices=10, seed=number, size=128)
        archive.add(f"1.{number}", f"P{number // 2}", NEGATIVE if number > 3 else POSITIVE, paths=made.paths)
    with transaction(archive.engine) as session:
        selection = select_training(session, FolderStore(archive.folder), POLICY, PSEUDONYMS)

    found = collect([read_archive(selection, archive.cache, 1)], Draw(0.5, 0))

    for split in (Split.TRAIN, Split.VALIDATION):
        assert {sample.positive for sample in found.of(split)} == {True, False}
        assert len({sample.group for sample in found.of(split)}) == 2


def freeze_half(engine: Engine) -> set[str]:
    """Label eight patients, freeze four of them; returns the frozen studies."""
    with transaction(engine) as session:
        for number in range(8):
            study = Study(study_instance_uid=f"1.{number}", patient_id=f"P{number}", created_at=NOON)
            study.changed_at, study.state = NOON, StudyState.COMPLETE
            session.add(study)
            session.flush()
            set_label(session, study, Opinion(VALUES[number % 2], LabelSource.RT_PCR), NOON)
        return {study.study_instance_uid for study in freeze(session, "2026", Share(0.5), NOON).studies}


def test_what_is_trained_on_and_what_is_measured_with_have_no_patient_in_common(engine: Engine) -> None:
    frozen = freeze_half(engine)

    with transaction(engine) as session:
        training = select_training(session, FolderStore(Path("archive")), "rt-pcr-first", PSEUDONYMS)
        test = select_test_set(session, FolderStore(Path("archive")), "2026", "rt-pcr-first", PSEUDONYMS)

    assert {study.files.study_instance_uid for study in test.studies} == frozen
    assert len(training.studies) == 4
    assert {study.group for study in training.studies}.isdisjoint(study.group for study in test.studies)
    assert {study.split for study in test.studies} == {Split.TEST}


def test_a_frozen_study_whose_labels_were_deleted_is_measured_with_its_frozen_label(engine: Engine) -> None:
    frozen = freeze_half(engine)
    with transaction(engine) as session:
        for uid in frozen:
            study = get_study(session, uid)
            delete_labels(session, study, list(study.labels), NOON)

    with transaction(engine) as session:
        test = select_test_set(session, FolderStore(Path("archive")), "2026", "rt-pcr-first", PSEUDONYMS)

    values = {study.files.study_instance_uid: study.positive for study in test.studies}
    assert values == {uid: int(uid[2:]) % 2 == 0 for uid in frozen}
