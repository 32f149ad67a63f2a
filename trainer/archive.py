"""Samples of the archive: labelled studies become lung slices in the cache, each with its study's label."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from db.label_policy import Ruling
from db.labels import LabelledStudy, count_unlabelled, labelled_studies
from db.models import LabelValue, Study
from db.queries import list_instances
from db.test_sets import read_test_set, training_studies, verify
from lungnode.deidentify.pseudonyms import Pseudonyms
from lungnode.store import Store, StoredFile
from trainer.cache import Cache, StudyFiles
from trainer.cache_build import SILENCE, Built, build_cache, measure_cache
from trainer.progress import Progress
from trainer.samples import Collection, Exclusion, Sample, Split

SOURCE: Final = "archive"


@dataclass(frozen=True)
class ArchiveStudy:
    """One labelled study, as the database knows it."""

    files: StudyFiles
    group: str  # stands for the patient, and is no Patient ID: lists of samples may leave the node
    positive: bool
    attributes: Mapping[str, str]
    split: Split | None = None


@dataclass(frozen=True)
class Selection:
    """Studies of the archive, and labelled ones that were left out."""

    studies: tuple[ArchiveStudy, ...]
    exclusions: tuple[Exclusion, ...] = ()
    notes: tuple[str, ...] = ()


def select_training(session: Session, archive: Store, policy: str, pseudonyms: Pseudonyms) -> Selection:
    """Select every study that may be trained on: labelled, and of a patient in no frozen test set.

    Raises:
        UnusableError: There is no such label policy.
    """
    parts = training_studies(session, policy)
    shelf = _Shelf(session, archive, pseudonyms)
    studies = tuple(shelf.study(each, each.ruling.value) for each in parts.usable)
    reasons: tuple[tuple[Sequence[LabelledStudy], Callable[[LabelledStudy], str]], ...] = (
        (parts.frozen, lambda _: "Its patient is in a frozen test set."),
        (parts.conflicts, lambda study: f"Its labels are in conflict: {study.ruling.conflict}."),
        (parts.undecided, lambda _: f"No label decides it under the policy {policy}."),
        (parts.unready, lambda _: "It is still being received, its files are deleted, or it is no chest CT."),
    )
    left_out = (Exclusion(s.study_instance_uid, why(s)) for part, why in reasons for s in part)
    bare = count_unlabelled(session)
    note = f"{bare} complete studies have no label; `lungnode labels list --unlabelled` names them."
    return Selection(studies, tuple(left_out), (note,) if bare else ())


def select_test_set(
    session: Session, archive: Store, name: str, policy: str, pseudonyms: Pseudonyms
) -> Selection:
    """Select the studies of a frozen test set with the labels that they were frozen with.

    Args:
        session: Of the node's database.
        archive: Where the instances are.
        name: Of the test set.
        policy: Names the source of labels for tables; it decides no label here.
        pseudonyms: Of the node.

    Raises:
        UnusableError: There is none of that name, it has changed, or the policy is unknown.
    """
    frozen = read_test_set(session, name)
    verify(frozen)
    labelled = {study.study_id: study for study in labelled_studies(session, policy)}
    # Labels may have been deleted since: the frozen one holds, whatever is known beside it is lost.
    bare = (
        LabelledStudy(s.study_id, s.study_instance_uid, s.patient, (), Ruling(), True) for s in frozen.studies
    )
    shelf = _Shelf(session, archive, pseudonyms)
    studies = (
        shelf.study(labelled.get(known.study_id, known), each.value, Split.TEST)
        for each, known in zip(frozen.studies, bare, strict=True)
    )
    return Selection(tuple(studies))


@dataclass(frozen=True)
class _Shelf:
    """Where studies are found, and how their patients are named."""

    session: Session
    archive: Store
    pseudonyms: Pseudonyms

    def study(
        self, labelled: LabelledStudy, value: LabelValue | None, split: Split | None = None
    ) -> ArchiveStudy:
        """Describe one labelled study."""
        study = self.session.get_one(Study, labelled.study_id)
        instances = list_instances(self.session, study, study.revision)
        digests = "\n".join(sorted(instance.digest for instance in instances))
        files = StudyFiles(
            study.study_instance_uid,
            study.revision,
            tuple(self.archive.root / instance.path for instance in instances),
            hashlib.sha256(digests.encode()).hexdigest(),
            self.archive,
            tuple(map(StoredFile.of, instances)),
        )
        patient = f"{SOURCE}/{self.pseudonyms.person(labelled.patient).patient_id}"
        return ArchiveStudy(files, patient, value == LabelValue.POSITIVE, label_attributes(labelled), split)


def label_attributes(labelled: LabelledStudy) -> dict[str, str]:
    """Return what the labels tell beside positive or negative."""
    symptoms = {True: "yes", False: "no", None: ""}[labelled.symptomatic]
    found = {
        "symptomatic": symptoms,
        "label_source": labelled.ruling.decided_by,
        "rt_pcr": labelled.first_rt_pcr or "",
    }
    return {name: str(value) for name, value in found.items() if value}


def read_archive(
    selection: Selection, cache: Cache, processes: int, progress: Progress = SILENCE
) -> Collection:
    """Bring the selected studies into the cache and list their lung slices; no transaction is needed.

    A study without a usable chest series is left out, with its reason.

    Raises:
        UnavailableError: The cache cannot be written, or a process was killed; what was built is kept.
    """
    built = build_cache([study.files for study in selection.studies], cache, processes, progress)
    pairs = list(zip(selection.studies, built, strict=True))
    samples = [sample for study, each in pairs for sample in _samples(study, each, cache)]
    unusable = [Exclusion(each.files.study_instance_uid, each.reason) for each in built if not each.study]
    told = (*selection.notes, measure_cache(built).sentence, *_failures(built))
    return Collection(tuple(samples), (*selection.exclusions, *unusable), told, is_read=True)


def _samples(study: ArchiveStudy, built: Built, cache: Cache) -> Iterator[Sample]:
    if built.study is None:
        return
    for kept in built.study.slices:
        yield Sample(
            source=SOURCE,
            path=cache.entry(study.files) / kept.name,
            positive=study.positive,
            group=study.group,
            split=study.split,
            study=study.files.study_instance_uid,
            healthy_scan=not study.positive,
            attributes={**built.study.attributes, **study.attributes},
            digest=kept.sha256,
            position_mm=kept.position_mm,
        )


def _failures(built: Iterable[Built]) -> Iterator[str]:
    for each in built:
        if each.study and each.study.failures:
            yield (
                f"Study {each.files.study_instance_uid} is used without {len(each.study.failures)} images "
                f"that cannot be read; the first: {each.study.failures[0]}"
            )
