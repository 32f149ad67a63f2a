"""Exports of studies of the archive, as received or de-identified; each is audited."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import Progress

from lungnode.errors import UnusableError
from lungnode.settings import Settings
from lungnode.store import StoredFile, open_archive, open_outputs

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.models import Study
    from lungnode.deidentify.export import Export, Exporter, Original


@dataclass
class Outcome:
    """What became of the studies that were asked for."""

    exports: dict[str, "Export"] = field(default_factory=dict)  # by original Study Instance UID
    failures: list[str] = field(default_factory=list)  # a sentence for each study or instance that stays
    notes: list[str] = field(default_factory=list)  # what else the operator should know
    received: int = 0  # files that left as they came

    @property
    def document(self) -> dict[str, Any]:
        """Return it as JSON, without anything that identifies but the UIDs that were asked for."""
        studies = [
            {
                "study_instance_uid": uid,
                "folder": str(export.folder),
                "instances": len(export.files),
                "left_out": [{"path": str(o.path), "reason": o.reason} for o in export.left_out],
                "new": export.is_new,
            }
            for uid, export in self.exports.items()
        ]
        return {"studies": studies, "failures": self.failures, "notes": self.notes}


def export_received(settings: Settings, engine: "Engine", uid: str, folder: Path, *, results: bool) -> int:
    """Copy a study's files, and our results where asked for, into `folder`; return how many.

    Raises:
        UnusableError: There is no such study, its files are deleted, or a file of that name is there already.
    """
    from db.audit import record  # noqa: PLC0415 - when called
    from db.queries import get_study, list_instances, refuse_deleted  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    with transaction(engine) as session:
        study = get_study(session, uid)
        refuse_deleted(session, study)
        _tell_corrections(study)
        received = list(map(StoredFile.of, list_instances(session, study)))
        outputs = (row for each in study.analyses for row in each.outputs if row.deleted_at is None)
        made = list(map(StoredFile.of, outputs))
    files = open_archive(settings).fetch(received)
    if results:
        files += open_outputs(settings).fetch(made)
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        if (folder / path.name).exists():
            raise UnusableError(f"{folder / path.name} exists already; export into an empty folder.")
        shutil.copy2(path, folder / path.name)
    told = {"deidentified": False, "folder": str(folder.resolve()), "files": len(files)}
    with transaction(engine) as session:
        record(session, "studies exported", uid, datetime.now(UTC), **told)
    return len(files)


def _tell_corrections(study: "Study") -> None:
    """Say that the files name another patient than the index."""
    corrected = sorted({keyword for each in study.corrections for keyword in each.attributes})
    if corrected:
        uid, which = study.study_instance_uid, ", ".join(corrected)
        typer.echo(f"Study {uid} is as it was received; its patient was corrected since ({which}).", err=True)


def export_deidentified(
    settings: Settings, engine: "Engine", uids: Sequence[str], folder: Path, *, check: bool
) -> Outcome:
    """Copy studies into `folder`, one folder each; what cannot leave is told, and the others go on.

    Raises:
        UnusableError: The folder lies in the node's own, or the node's secret cannot be used.
        UnavailableError: The folder cannot be written; the studies before are there.
    """
    from lungnode.deidentify.export import Exporter  # noqa: PLC0415 - when called
    from lungnode.deidentify.pseudonyms import open_pseudonyms  # noqa: PLC0415 - when called

    if folder.resolve().is_relative_to(settings.data.resolve()):
        raise UnusableError(f"{folder} lies in the node's own folder {settings.data}; export to another.")
    outcome = Outcome()
    with _progress(len(uids)) as bar:
        exporter = Exporter(settings.data, folder, open_pseudonyms(settings.data), check, bar.advance)
        with exporter.alone():
            for uid in dict.fromkeys(uids):
                try:
                    original = _original(settings, engine, uid)
                except UnusableError as error:
                    outcome.failures.append(str(error))
                    continue
                bar.start(len(original.instances))
                export = outcome.exports[uid] = _export(engine, exporter, original)
                outcome.failures += [left_out.sentence for left_out in export.left_out]
    return outcome


def _original(settings: Settings, engine: "Engine", uid: str) -> "Original":
    from db.labels import patient_of  # noqa: PLC0415 - when called
    from db.queries import get_study, list_instances, refuse_deleted  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called
    from lungnode.deidentify.export import Original  # noqa: PLC0415 - when called

    with transaction(engine) as session:
        study = get_study(session, uid)
        refuse_deleted(session, study)
        instances = list_instances(session, study)
        if not instances:
            raise UnusableError(f"Study {uid} has no images.")
        patient = patient_of(study)
    files = open_archive(settings).fetch(list(map(StoredFile.of, instances)))
    uids = (instance.sop_instance_uid for instance in instances)
    return Original(uid, patient, dict(zip(uids, files, strict=True)))


def _export(engine: "Engine", exporter: "Exporter", original: "Original") -> "Export":
    from db.audit import record  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415 - when called

    # The long work comes before the transaction, so that no other program waits for the database.
    with exporter.export(original) as export:
        if not export.is_new:
            return export
        told = {"deidentified": True, "folder": str(export.folder.parent.resolve())}
        counts = {"instances": len(export.files), "left_out": len(export.left_out)}
        with transaction(engine) as session:
            now = datetime.now(UTC)
            record(session, "studies exported", original.study_instance_uid, now, **told, **counts)
    return export


class _Bar:
    """The instances of one study after the other, on a terminal."""

    def __init__(self, progress: Progress, studies: int) -> None:
        self._progress, self._studies, self._study = progress, studies, 0
        self._task = progress.add_task("", total=None)

    def start(self, instances: int) -> None:
        self._study += 1
        text = f"Study {self._study} of {self._studies}"
        self._progress.reset(self._task, total=instances, description=text)

    def advance(self) -> None:
        self._progress.advance(self._task)


@contextmanager
def _progress(studies: int) -> Iterator[_Bar]:
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        yield _Bar(progress, studies)


def report(outcome: Outcome, folder: Path, *, as_json: bool) -> None:
    """Print what became of the studies.

    Raises:
        Exit: A study or an instance was left out.
    """
    for failure in (*outcome.failures, *outcome.notes):
        typer.echo(failure, err=True)
    copies = [export for export in outcome.exports.values() if export.files]
    if as_json:
        typer.echo(json.dumps(outcome.document, indent=2))
    elif outcome.received:
        typer.echo(f"{outcome.received} files as received are in {folder}.")
    else:
        images = sum(len(export.files) for export in copies)
        typer.echo(f"{images} de-identified images of {len(copies)} studies are in {folder}.")
    if outcome.failures:
        raise typer.Exit(1)
