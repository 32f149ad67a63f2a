"""Deletes the files of studies whose time has come, a few at a time; any step may be killed, by any clerk.

Order: the study's folders leave their places, durably; the rows say so and are committed; the trash is
emptied. All up to the commit happens under the clerks' lock, so whoever finds a folder in the trash knows:
files that rows still name were never deleted and go back, all others were.
"""

import logging
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from daemon.clerk.files import writing_to
from db import intake
from db.models import Instance, Output
from db.retention import Due, due_studies, files_of, is_due, mark_deleted
from db.session import transaction
from lungnode.durable import sync_folder
from lungnode.settings import Settings
from lungnode.shown_maps import MAPS_FILE
from lungnode.trash import Trash, roots, throw_away, trash_of

BATCH: Final = 20  # studies a round
_log = logging.getLogger(__name__)


class Retention:
    """One clerk's part in deleting files."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
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
        for root in roots(self._settings):
            with writing_to(root):
                for trash in trash_of(root):
                    self._put_back(trash)
                    self._empty(trash)

    def _delete(self, due: Due, now: datetime) -> bool:
        with writing_to(self._settings.data), transaction(self._engine) as session:
            intake.serialise(session)
            if not is_due(session, self._settings, due, now) or self._has_strangers(session, due):
                return False
            thrown = [
                trash
                for root in roots(self._settings)
                if (trash := throw_away(root, due.study_instance_uid)) is not None
            ]
            mark_deleted(session, due, now)
        _log.info("deleted the files of study %s (%s)", due.study_instance_uid, due.why)
        for trash in thrown:
            self._empty(trash)
        return True

    def _empty(self, trash: Trash) -> None:
        if not trash.empty() and trash.name not in self._told:
            _log.error("%s cannot be deleted; see who holds its files", trash.path)
            self._told.add(trash.name)

    def _has_strangers(self, session: Session, due: Due) -> bool:
        """Tell whether the study's folder holds what the index lacks: nobody has looked at it yet."""
        received, _ = files_of(session, due.study_id)
        folder = self._settings.archive / due.study_instance_uid
        found = {str(path.relative_to(self._settings.archive)) for path in folder.rglob("*.dcm")}
        strangers = found - received
        if strangers and due.study_instance_uid not in self._told:
            _log.warning(
                "the files of study %s are kept: %d of them are not indexed, see `lungnode studies reindex`",
                due.study_instance_uid,
                len(strangers),
            )
            self._told.add(due.study_instance_uid)
        return bool(strangers)

    def _put_back(self, trash: Trash) -> None:
        with transaction(self._engine) as session:
            intake.serialise(session)
            for file in list(trash.files()):
                place = trash.place_of(file)
                if not place.exists() and self._is_named(session, trash.root, place):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    file.rename(place)
                    sync_folder(place.parent)
                    _log.warning("put %s back: it was about to be deleted", place)
            if (trash.root / trash.name).is_dir():
                sync_folder(trash.root)

    def _is_named(self, session: Session, root: Path, place: Path) -> bool:
        path = str(place.relative_to(root))
        if root == self._settings.outputs and place.name == MAPS_FILE:  # has no row: it goes with the others
            beside = Output.path.startswith(f"{place.parent.relative_to(root)}/", autoescape=True)
            return (
                session.scalar(select(Output.id).where(beside, Output.deleted_at.is_(None)).limit(1))
                is not None
            )
        for folder, table in ((self._settings.archive, Instance), (self._settings.outputs, Output)):
            if root == folder:
                named = select(table.id).where(table.path == path, table.deleted_at.is_(None))
                return session.scalar(named.limit(1)) is not None
        return False  # a cache: it can be made again
