"""Forgetting a study on this node: what is checked before, and what is removed behind the rows.

Order: the rows go and the folders leave their places in one transaction, which also notes what is left to do;
then that is done, and the note goes. Killed at any point, the same command goes on.
"""

import errno
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from daemon.clerk.quarantine import quarantined_of
from daemon.clerk.spool import waiting_of
from db.erasure import begin_erasure, delete_study, pending_erasure
from db.models import Quarantined, Study
from db.queries import get_study
from db.session import transaction, truncate_journal
from lungnode.deidentify.linkage import forget as forget_linkage
from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import Settings
from lungnode.store import Bin, local_bins, open_archive, open_outputs
from trainer.features import forget_features
from trainer.use import Use, use_of

RUNS = "runs"  # below the data folder


@dataclass(frozen=True)
class Erased:
    """What was found of a study and is gone now."""

    runs: tuple[str, ...]  # that were trained with it, which stay as they are
    quarantined: int  # files
    features: int  # rows of the cache, overwritten
    linkage: bool  # who it became in exports


def is_known(engine: Engine, uid: str) -> bool:
    """Tell whether there is anything to delete."""
    with transaction(engine) as session:
        return _has_row(session, uid) or pending_erasure(session, uid) is not None


def erase(settings: Settings, engine: Engine, uid: str, now: datetime, *, force: bool) -> Erased:
    """Forget a study, or go on where one was killed.

    Raises:
        UnusableError: There is no such study, or something still needs it.
        UnavailableError: The database or a folder is away; the same command goes on later.
    """
    use = use_of(uid, settings.cache, settings.data / RUNS)
    try:
        _refuse(settings, uid, use, now)
        _begin(settings, engine, uid, now, use, force=force)
        return _finish(settings, engine, uid, use)
    except OSError as error:
        raise UnavailableError(
            f"Study {uid} is not wholly deleted: {error.filename}: {error.strerror}. Repeat the command."
        ) from error


def _refuse(settings: Settings, uid: str, use: Use, now: datetime) -> None:
    waiting = waiting_of(settings.spool, uid, now)
    if waiting:
        raise UnusableError(
            f"Study {uid} is being received: {waiting} of its instances wait in the spool; try again when "
            "the clerk has indexed them."
        )
    if use.busy:
        raise UnusableError(f"Study {uid} is being trained with in {', '.join(use.busy)}; stop that first.")


def _begin(settings: Settings, engine: Engine, uid: str, now: datetime, use: Use, *, force: bool) -> None:
    with transaction(engine) as session:
        if pending_erasure(session, uid) is None or _has_row(session, uid):
            delete_study(session, get_study(session, uid), now, force=force, trained_in=use.runs)
        begin_erasure(session, uid, use.contents, now)
        session.flush()
        for bin_ in _bins(settings):
            bin_.throw_away(uid)


def _finish(settings: Settings, engine: Engine, uid: str, use: Use) -> Erased:
    for bin_ in _bins(settings):
        for trash in bin_.trash():
            if trash.name == uid and not trash.empty():
                raise OSError(errno.EBUSY, "its files cannot be deleted", str(trash))
    with transaction(engine) as session:
        begun = pending_erasure(session, uid)
        contents = list(begun.contents) if begun else []
    erased = Erased(
        runs=use.runs,
        quarantined=_forget_quarantined(settings.quarantine, engine, uid),
        features=forget_features(settings.cache / "features", contents),
        linkage=forget_linkage(settings.data, uid),
    )
    with transaction(engine) as session:
        begun = pending_erasure(session, uid)
        if begun is not None:
            session.delete(begun)
    truncate_journal(engine)
    return erased


def _bins(settings: Settings) -> tuple[Bin, ...]:
    return open_archive(settings), open_outputs(settings), *local_bins(settings)


def _forget_quarantined(folder: Path, engine: Engine, uid: str) -> int:
    paths = quarantined_of(folder, uid)
    for path in paths:
        with transaction(engine) as session:
            session.execute(delete(Quarantined).where(Quarantined.path == path.name))
        # The description last but one: `reindex` makes rows of those that are left.
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return len(paths)


def _has_row(session: Session, uid: str) -> bool:
    return session.scalar(select(Study.id).where(Study.study_instance_uid == uid)) is not None
