"""From received files to archive and database, in batches that may be repeated after a crash at any point.

Order: into the archive, durably; commit the rows; unlink from the spool.
"""

import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from daemon.clerk.files import writing_to
from daemon.clerk.header import read_header
from daemon.clerk.plan import Known, Plan, Reading, Received, make_plans
from daemon.clerk.quarantine import Rejected, set_aside
from daemon.clerk.rejections import read_rejection
from daemon.clerk.rows import write_rows
from db import intake
from db.models import Disposition
from db.session import transaction
from lungnode.digest import file_digest
from lungnode.durable import make_folder, sync_folder
from lungnode.errors import UnusableError
from lungnode.rejection import SOP_CLASS as REJECTING_CLASS
from lungnode.rules import keywords_of
from lungnode.settings import Settings
from lungnode.store import Arrival, open_archive

BATCH: Final = 200  # files a transaction
_log = logging.getLogger(__name__)
# A file that alone is unreadable; all else (no memory, no handles) passes and is met again.
UNREADABLE: Final = (errno.EIO, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Indexed:
    """What a batch came to."""

    added: int = 0
    repeated: int = 0
    left: tuple[Received, ...] = ()  # for the next batch
    rejected: tuple[Rejected, ...] = ()


class Indexer:
    """Indexes batches of received files."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._archive = open_archive(settings)
        self._keywords = keywords_of(settings.rules)

    def index(self, batch: Sequence[Received], now: datetime) -> Indexed:
        """Index files; what is left in the spool afterwards belongs to the next batch.

        Raises:
            UnavailableError: The database or the archive is away; repeat the batch later.
        """
        try:
            return self._index(batch, now)
        except DataError as error:
            if len(batch) > 1:
                return _sum([self.index([received], now) for received in batch])
            reason = f"The database refuses it ({type(error.orig).__name__})."
            return self._quarantine([Rejected(batch[0], reason)], now)

    def _index(self, batch: Sequence[Received], now: datetime) -> Indexed:
        readings, rejected = self._read(batch, now)
        with transaction(self._engine) as session:
            known = _look_up(session, readings)
        with writing_to(self._archive.root):
            plans = make_plans(readings, known, self._archive)
            paths = self._keep(plans)
        with transaction(self._engine) as session:
            intake.serialise(session)
            plans = self._kept(_still_true(session, plans, known), paths)
            write_rows(session, plans, paths, self._settings, now)
        _tell_conflicts(plans)
        done = [each.received for plan in plans for each in (plan.reading, *plan.copies)]
        for received in done:
            _discard(received)
        added = sum(plan.repeats is None for plan in plans)
        done_paths = {received.path for received in done}
        left = tuple(each.received for each in readings if each.received.path not in done_paths)
        return _sum([Indexed(added, len(done) - added, left), self._quarantine(rejected, now)])

    def _read(self, batch: Sequence[Received], now: datetime) -> tuple[list[Reading], list[Rejected]]:
        readings, rejected = [], []
        for received in batch:
            try:
                readings.append(self._reading(received, now))
            except UnusableError as error:
                rejected.append(Rejected(received, str(error)))
            except FileNotFoundError:
                continue  # another clerk was faster
            except OSError as error:
                if error.errno not in UNREADABLE:
                    raise
                rejected.append(Rejected(received, f"The file cannot be read: {error.strerror}."))
        return readings, rejected

    def _reading(self, received: Received, now: datetime) -> Reading:
        header = read_header(received.path, self._keywords)
        status = received.path.stat()
        # The receiver's clock may be ahead of ours; a time to come would delay the study.
        received_at = min(datetime.fromtimestamp(status.st_mtime, UTC), now)
        note = read_rejection(received.path) if header.sop_class_uid == REJECTING_CLASS else None
        return Reading(received, header, file_digest(received.path), status.st_size, received_at, note)

    def _keep(self, plans: Sequence[Plan]) -> dict[str, str]:
        """Give new files their place; returns paths below the archive by digest."""
        paths, arrivals = {}, []
        there = self._archive.present([path for plan in plans if (path := _path_before(plan))])
        for plan in plans:
            received, before = plan.reading.received, _path_before(plan)
            if received.association is None:
                paths[plan.reading.digest] = str(received.path.relative_to(self._archive.root))
            elif plan.repeats is None or plan.anew or (before and before not in there):
                arrivals.append(_arrival(plan))
        kept = self._archive.keep(arrivals) if arrivals else ()
        return paths | {each.digest: path for each, path in zip(arrivals, kept, strict=True)}

    def _kept(self, plans: Sequence[Plan], paths: Mapping[str, str]) -> list[Plan]:
        """Return those whose file the archive has; retention may have taken it away meanwhile."""
        named = [
            paths.get(plan.reading.digest) or (plan.repeats.path if plan.repeats else "") for plan in plans
        ]
        there = self._archive.present(named)
        return [plan for plan, path in zip(plans, named, strict=True) if path in there]

    def _quarantine(self, rejected: Sequence[Rejected], now: datetime) -> Indexed:
        spooled = [each for each in rejected if each.received.association is not None]
        folder, rows = self._settings.quarantine, []
        if spooled:
            with writing_to(folder):
                make_folder(folder)
                rows = [set_aside(each, folder, now) for each in spooled]
                sync_folder(folder)
            with transaction(self._engine) as session:
                intake.serialise(session)
                intake.add_quarantined(session, rows)
        for each, row in zip(spooled, rows, strict=True):
            sender, kept = row["calling_ae_title"], folder / row["path"]
            _log.warning("%s sent what cannot be used, kept as %s: %s", sender, kept, each.reason)
            _discard(each.received)
        return Indexed(rejected=tuple(rejected))


def _path_before(plan: Plan) -> str:
    """Return where a file is of which the same bytes came again; retention or a disk may have taken it."""
    before, came = plan.repeats, plan.reading.received.association is not None
    return before.path if came and before and before.digest == plan.reading.digest else ""


def _arrival(plan: Plan) -> Arrival:
    """Return the file of a plan on its way into the archive; one that came again takes its old place."""
    header = plan.reading.header
    name = Path(plan.repeats.path).name if plan.repeats else f"{header.sop_instance_uid}.dcm"
    place = (header.study_instance_uid, header.sop_instance_uid, name)
    return Arrival(plan.reading.received.path, *place, plan.reading.digest)


def _look_up(session: Session, readings: Sequence[Reading]) -> Known:
    sop_uids = {reading.header.sop_instance_uid for reading in readings}
    series_uids = {reading.header.series_instance_uid for reading in readings}
    own_sop_uids, own_series_uids = intake.own_outputs(session, sop_uids, series_uids)
    return Known(
        intake.held_instances(session, sop_uids), frozenset(own_sop_uids), frozenset(own_series_uids)
    )


def _still_true(session: Session, plans: Sequence[Plan], known: Known) -> list[Plan]:
    """Return the plans whose ground no other clerk has changed; the others wait for the next batch."""
    uids = [plan.reading.header.sop_instance_uid for plan in plans]
    held = intake.held_instances(session, uids)
    return [
        plan
        for plan, uid in zip(plans, uids, strict=True)
        if {each.id for each in held.get(uid, ())} == {each.id for each in known.instances.get(uid, ())}
    ]


def _tell_conflicts(plans: Sequence[Plan]) -> None:
    for plan in plans:
        if plan.disposition is Disposition.CONFLICT and plan.repeats is None:
            uid, sender = plan.reading.header.sop_instance_uid, plan.reading.facts.calling_ae_title
            _log.warning("%s sent instance %s again, kept as a conflict: %s", sender, uid, plan.note)


def _discard(received: Received) -> None:
    if received.association is not None:
        received.path.unlink(missing_ok=True)


def _sum(parts: Sequence[Indexed]) -> Indexed:
    return Indexed(
        added=sum(part.added for part in parts),
        repeated=sum(part.repeated for part in parts),
        left=tuple(each for part in parts for each in part.left),
        rejected=tuple(each for part in parts for each in part.rejected),
    )
