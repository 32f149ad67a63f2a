"""Rebuilds the index of the archive from its files alone; a repeat changes nothing."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from daemon.clerk.index import BATCH, Indexer
from daemon.clerk.plan import Received
from db import intake
from db.changes import restore_study
from db.models import StudyState
from db.queries import StudyFilter, list_studies
from db.session import transaction
from lungnode.errors import UnavailableError
from lungnode.settings import Settings
from lungnode.store import Store, StoredFile, fetched, open_archive, open_outputs

# A conflicting instance carries a piece of its digest in its name: the one that came first is indexed first.
_BESIDE: Final = re.compile(r"\.[0-9a-f]{12}$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reindexed:
    """What was found."""

    files: int
    added: int
    quarantined: int
    rejected: tuple[tuple[str, str], ...]  # path below the archive, reason


def reindex(
    engine: Engine, settings: Settings, now: datetime, progress: Callable[[int, int], None]
) -> Reindexed:
    """Index every file of archive and quarantine that the database lacks.

    Studies that it lacked are complete and not analysed again: their results are at the PACS.

    Args:
        engine: A database with its tables.
        settings: Say where archive, quarantine and outputs are.
        now: The time.
        progress: Called with the files done and their number.

    Raises:
        UnavailableError: The database or the archive is away; begin again later.
    """
    archive = open_archive(settings)
    studies = {study: archive.sizes(study) for study in archive.studies()}
    total = sum(map(len, studies.values()))
    indexer, done, added = Indexer(engine, settings), 0, 0
    rejected: list[tuple[str, str]] = []
    for study, sizes in studies.items():
        found = list(zip(sizes, fetched(archive, [StoredFile(*each) for each in sizes.items()]), strict=True))
        rejected += [(path, str(error)) for path, error in found if isinstance(error, UnavailableError)]
        for batch in _batches(sorted((path for _, path in found if isinstance(path, Path)), key=_order)):
            waiting: Sequence[Received] = batch
            while waiting:
                indexed = indexer.index(waiting, now)
                waiting, added = indexed.left, added + indexed.added
                rejected += [(_below(each.received.path, archive), each.reason) for each in indexed.rejected]
            done += len(batch)
            progress(done, total)
        _restore(engine, settings, study)
    return Reindexed(total, added, _restore_quarantine(engine, settings), tuple(rejected))


def _below(path: Path, archive: Store) -> str:
    return str(path.relative_to(archive.root))


def _order(path: Path) -> tuple[bool, int, str]:
    # As they came: what a later one says of the patient counts.
    try:
        came_ns = path.stat().st_mtime_ns
    except FileNotFoundError:  # retention took it in this moment
        came_ns = 0
    return _BESIDE.search(path.stem) is not None, came_ns, path.name


def _batches(paths: Sequence[Path]) -> Iterator[list[Received]]:
    for start in range(0, len(paths), BATCH):
        yield [Received(path) for path in paths[start : start + BATCH]]


def _restore(engine: Engine, settings: Settings, uid: str) -> None:
    """Close a study that was found here; one that is being received is the clerk's."""
    # A revision that composed results before must not be composed again under the same UIDs.
    composed = open_outputs(settings).sizes(uid)
    revisions = {int(name) for path in composed if (name := path.split("/")[1]).isdecimal()}
    with transaction(engine) as session:
        intake.serialise(session)
        for summary in list_studies(session, StudyFilter(study_instance_uid=uid, state=StudyState.RECEIVING)):
            is_found = all(not instance.association_id for instance in summary.study.instances)
            if summary.study.revision == 0 and is_found:
                restore_study(summary.study, max([1, *revisions]))


def _restore_quarantine(engine: Engine, settings: Settings) -> int:
    rows = [row for path in sorted(settings.quarantine.glob("*.json")) if (row := _row(path)) is not None]
    with transaction(engine) as session:
        intake.serialise(session)
        intake.add_quarantined(session, rows)
    return len(rows)


def _row(path: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_text("utf-8"))
        received_at = datetime.fromisoformat(told["received_at"])
        names = ("path", "reason", "association_id", "calling_ae_title")
        return {**{name: str(told[name]) for name in names}, "received_at": received_at.astimezone(UTC)}
    except (ValueError, KeyError, TypeError):
        _log.warning("%s is no description of a quarantined file", path)
        return None
