"""Labelled studies with their images: a folder that `lungnode train` reads elsewhere.

FOLDER/<Study Instance UID>/<SOP Instance UID>.dcm
FOLDER/labels.csv      every label, as `labels import` reads it
FOLDER/manifest.csv    lung slices, each with the label that a policy gives its study, as `train` reads it
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lungnode.cli._exports import Outcome, export_deidentified, export_received
from lungnode.errors import UnusableError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.label_policy import Opinion
    from db.labels import LabelledStudy
    from lungnode.settings import Settings
    from trainer.samples import Sample

LABELS: Final = "labels.csv"
MANIFEST: Final = "manifest.csv"


@dataclass(frozen=True)
class _Left:
    """A labelled study as it left."""

    study: "LabelledStudy"
    folder: Path
    patient: str  # who stands for the patient there
    shift_days: int
    is_frozen: bool  # its patient is in a test set

    def opinions(self, name_reader: Callable[[str], str]) -> "Iterator[tuple[str, Opinion]]":
        """Yield its labels as they leave, each with the Study Instance UID that it has there."""
        for opinion in self.study.opinions:
            labelled_on = _moved(opinion.labelled_on, self.shift_days)
            yield (
                self.folder.name,
                replace(opinion, reader=name_reader(opinion.reader), labelled_on=labelled_on),
            )


def _moved(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat() if day else ""


@dataclass(frozen=True)
class LabelExport:
    """What is exported, and how."""

    settings: "Settings"
    engine: "Engine"
    folder: Path
    policy: str

    def deidentified(self, *, check: bool) -> Outcome:
        """Export de-identified images and labels; what stays is told.

        Raises:
            UnusableError: Nothing is labelled, or nothing may be written there.
            UnavailableError: The folder cannot be written.
        """
        from lungnode.deidentify.pseudonyms import open_pseudonyms  # noqa: PLC0415 - when called

        studies = self._labelled()
        uids = [study.study_instance_uid for study, _ in studies]
        outcome = export_deidentified(self.settings, self.engine, uids, self.folder, check=check)
        left = []
        for study, is_frozen in studies:
            export = outcome.exports.get(study.study_instance_uid)
            if export and export.files:
                person = export.person
                left.append(_Left(study, export.folder, person.patient_id, person.shift_days, is_frozen))
        self._write(left, open_pseudonyms(self.settings.data).reader, outcome)
        return outcome

    def identified(self) -> Outcome:
        """Export images as they were received, and labels with the readers' names.

        Raises:
            UnusableError: Nothing is labelled, or a file is there already.
        """
        outcome, left = Outcome(), []
        for study, is_frozen in self._labelled():
            target = self.folder / study.study_instance_uid
            uid = study.study_instance_uid
            outcome.received += export_received(self.settings, self.engine, uid, target, results=False)
            left.append(_Left(study, target, study.patient, 0, is_frozen))
        self._write(left, str, outcome)
        return outcome

    def _labelled(self) -> "list[tuple[LabelledStudy, bool]]":
        from db.labels import labelled_studies  # noqa: PLC0415 - when called
        from db.session import transaction  # noqa: PLC0415 - when called
        from db.test_sets import frozen_patients  # noqa: PLC0415 - when called

        with transaction(self.engine) as session:
            frozen = frozen_patients(session)
            studies = [(study, study.patient in frozen) for study in labelled_studies(session, self.policy)]
        if not studies:
            raise UnusableError("No study has a label: there is nothing to export.")
        return studies

    def _write(self, left: Sequence[_Left], name_reader: Callable[[str], str], outcome: Outcome) -> None:
        from db import audit  # noqa: PLC0415 - when called
        from db.label_file import format_labels  # noqa: PLC0415 - when called
        from db.session import transaction  # noqa: PLC0415 - when called
        from lungnode.durable import replaced  # noqa: PLC0415 - when called
        from trainer.manifest import write_manifest  # noqa: PLC0415 - when called

        rows = [row for each in left for row in each.opinions(name_reader)]
        samples = [sample for each in left for sample in _samples(each, outcome)]
        if not left:
            return
        with replaced(self.folder / LABELS) as file:
            file.write(format_labels(rows).encode())
        write_manifest(samples, self.folder / MANIFEST)
        told = {"labels": len(rows), "studies": len(left), "slices": len(samples)}
        with transaction(self.engine) as session:
            audit.record(session, "labels exported", "images", datetime.now(UTC), **told)


def _samples(left: _Left, outcome: Outcome) -> "Iterator[Sample]":
    """Yield the lung slices of a study; why it has none is noted."""
    from lungnode.loading import read_images  # noqa: PLC0415 - when called
    from trainer.attributes import scan_attributes  # noqa: PLC0415 - when called
    from trainer.chest import lung_stack  # noqa: PLC0415 - when called

    study, uid = left.study, left.study.study_instance_uid
    if study.ruling.value is None or not study.is_ready:
        reason = study.ruling.conflict or "no label decides it, or it is no complete chest CT"
        outcome.notes.append(f"Study {uid} is not in {MANIFEST}: {reason}.")
        return
    try:
        images = read_images(sorted(left.folder.iterdir()))
        stack = lung_stack(images)
    except UnusableError as error:
        outcome.notes.append(f"Study {uid} is not in {MANIFEST}: {error}")
        return
    first = stack.slices[0]
    if first.frame is not None:
        outcome.notes.append(f"Study {uid} is not in {MANIFEST}: a line names a file, not one of its frames.")
        return
    attributes = scan_attributes(images.sources[first.sop_instance_uid], first.thickness_mm)
    for header, position_mm in zip(stack.slices, stack.known_positions_mm, strict=True):
        yield _sample(left, header.path, attributes, position_mm)


def _sample(left: _Left, path: Path, attributes: Mapping[str, str], position_mm: float | None) -> "Sample":
    from db.models import LabelValue  # noqa: PLC0415 - when called
    from trainer.archive import label_attributes  # noqa: PLC0415 - when called
    from trainer.samples import Sample, Split  # noqa: PLC0415 - when called

    study = left.study
    positive = study.ruling.value == LabelValue.POSITIVE
    return Sample(
        source="archive",
        path=path,
        positive=positive,
        group=left.patient,
        split=Split.TEST if left.is_frozen else None,  # it stays what it was frozen as
        study=left.folder.name,
        healthy_scan=not positive,
        attributes={**attributes, **label_attributes(study)},
        position_mm=position_mm,
    )
