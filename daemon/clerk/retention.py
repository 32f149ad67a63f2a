"""Deletes the files of studies whose time has come, a few at a time; any step may be killed, by any clerk.

Order: the study's files leave their places, durably; the rows say so and are committed; the trash is
emptied. All up to the commit happens under the clerks' lock, so whoever finds something in the trash knows:
files that rows still name were never deleted and go back, all others were.
"""

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from daemon.clerk.files import writing_to
from db import intake
from db.models import Instance, Output
from db.retention import Due, due_studies, files_of, is_due, mark_deleted
from db.session import transaction
from lungnode.settings import Settings
from lungnode.shown_maps import MAPS_FILE
from lungnode.store import Bin, Trash, local_bins, open_archive, open_outputs

BATCH: Final = 20  # studies a round
_log = logging.getLogger(__name__)
Table = type[Instance] | type[Output]


class Retention:
    """One clerk's part in deleting files."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._archive, self._outputs = open_archive(settings), open_outputs(settings)
        self._told: set[str] = set()  # studies of which something was logged that need not be said again

    def sweep(self, now: datetime) -> list[str]:
        """Finish what was begun, then delete what is due; returns the studies whose files are gone.

        Raises:
            UnavailableError: The database or a folder is away; the next sweep goes on.
        """
        self.finish()
        with transaction(self._engine) as session:
            due = due_studies(session, self._settings, now, BATCH)
        return [each.study_instance_uid for each in due if self._delete(each, now)]

    def finish(self) -> None:
        """Put back what left its place without a commit, and empty the trash of all else.

        Raises:
            UnavailableError: The database or a folder is away.
        """
        with writing_to(self._settings.data):
            for bin_, table in self._bins():
                for trash in bin_.trash():
                    if table is not None:  # what lies in a cache can be made again
                        self._put_back(trash, table)
                    self._empty(trash)

    def _bins(self) -> Iterator[tuple[Bin, Table | None]]:
        """Yield all that has files of a study, with the rows that name them."""
        yield self._archive, Instance
        yield self._outputs, Output
        yield from ((bin_, None) for bin_ in local_bins(self._settings))

    def _delete(self, due: Due, now: datetime) -> bool:
        with writing_to(self._settings.data), transaction(self._engine) as session:
            intake.serialise(session)
            if not is_due(session, self._settings, due, now) or self._has_strangers(session, due):
                return False
            thrown = [
                trash
                for bin_, _ in self._bins()
                if (trash := bin_.throw_away(due.study_instance_uid)) is not None
            ]
            mark_deleted(session, due, now)
        _log.info("deleted the files of study %s (%s)", due.study_instance_uid, due.why)
        for trash in thrown:
            self._empty(trash)
        return True

    def _empty(self, trash: Trash) -> None:
        if not trash.empty() and trash.name not in self._told:
            _log.error("%s cannot be deleted; see who holds its files", trash)
            self._told.add(trash.name)

    def _has_strangers(self, session: Session, due: Due) -> bool:
        """Tell whether the study's folder holds what the index lacks: nobody has looked at it yet."""
        received, _ = files_of(session, due.study_id)
        strangers = self._archive.sizes(due.study_instance_uid).keys() - received
        if strangers and due.study_instance_uid not in self._told:
            _log.warning(
                "the files of study %s are kept: %d of them are not indexed, see `lungnode studies reindex`",
                due.study_instance_uid,
                len(strangers),
            )
            self._told.add(due.study_instance_uid)
        return bool(strangers)

    def _put_back(self, trash: Trash, table: Table) -> None:
        with transaction(self._engine) as session:
            intake.serialise(session)
            for path in trash.paths():
                if _is_named(session, table, path):
                    trash.put_back(path)
                    _log.warning("put %s back: it was about to be deleted", path)


def _is_named(session: Session, table: Table, path: str) -> bool:
    named = table.path == path
    if table is Output and path.endswith(f"/{MAPS_FILE}"):  # has no row: it goes with the others
        named = Output.path.startswith(f"{PurePosixPath(path).parent}/", autoescape=True)
    return session.scalar(select(table.id).where(named, table.deleted_at.is_(None)).limit(1)) is not None
