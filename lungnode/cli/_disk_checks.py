"""The checks of `lungnode check` on disks, on what is kept, and on what should be gone."""

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, make_url

from db.erasure import pending_erasures
from db.retention import due_studies, kept_bytes, kept_studies
from db.session import is_current, open_engine, transaction
from lungnode.cli._check import Check, Status
from lungnode.congestion import is_told
from lungnode.errors import LungnodeError
from lungnode.settings import Settings

_MEND: Final = "Free space, or move the folder to a larger disk."
_LOOKED_AT: Final = 1000  # studies
_LOCK_WAIT_S: Final = 2.0


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists: checking makes nothing."""
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


def check_disks(settings: Settings) -> Iterator[Check]:
    """Check each file system that we write to; the spool's decides whether studies are taken."""
    limits, seen = settings.receiver, set[int]()
    for folder in (settings.spool, settings.archive, settings.outputs, settings.data, *_database(settings)):
        device = existing(folder).stat().st_dev
        if device in seen:
            continue
        name = f"disk of {folder}" if seen else "disk"
        free = shutil.disk_usage(existing(folder)).free
        message, follows = f"{free / 1e9:.1f} GB are free.", "Studies are refused with 0xA700."
        if seen:
            follows = "Work on studies waits, and the spool fills meanwhile."
        seen.add(device)
        if free < limits.disk_reject_bytes:
            yield Check(name, Status.WRONG, f"{message} {follows}", _MEND)
        elif free < limits.disk_warn_bytes:
            yield Check(name, Status.WARNING, message, _MEND)
        else:
            yield Check(name, Status.OK, message)


def check_backlog(settings: Settings) -> Iterator[Check]:
    """Check whether senders are turned away because too many studies wait."""
    if is_told(settings.spool):
        most = settings.receiver.max_waiting_studies
        message = f"More than {most} studies wait for their analysis: senders are turned away for now."
        mend = "Start more workers, or set receiver.max_waiting_studies higher."
        yield Check("backlog", Status.WARNING, message, mend)


def _database(settings: Settings) -> list[Path]:
    url = make_url(settings.database)
    is_file = url.get_backend_name() == "sqlite" and url.database
    return [Path(str(url.database)).parent] if is_file else []


def check_kept(settings: Settings) -> Iterator[Check]:
    """Check what retention can and cannot do, and whether every deletion came to its end."""
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return
    engine = open_engine(settings.database, lock_wait_s=_LOCK_WAIT_S)
    try:
        if not is_current(engine):
            return  # told elsewhere
        yield _retention(settings, engine)
        with transaction(engine) as session:
            pending = [each.study_instance_uid for each in pending_erasures(session)]
        if pending:
            mend = f"Repeat `lungnode studies delete {pending[0]}`."
            yield Check("deletions", Status.WARNING, f"{len(pending)} are not finished.", mend)
    except LungnodeError:
        return  # the database is away: told elsewhere
    finally:
        engine.dispose()


def _retention(settings: Settings, engine: Engine) -> Check:
    limits, now = settings.retention, datetime.now(UTC)
    by_rule = any(rule.retention_days for rule in settings.rules)
    if limits.days is None and limits.max_bytes is None and not by_rule:
        return Check("retention", Status.OK, "No limit is set: nothing is deleted by itself.")
    with transaction(engine) as session:
        size, due = kept_bytes(session), len(due_studies(session, settings, now, _LOOKED_AT))
        kept = Counter(
            reason for each in kept_studies(session, settings, now, _LOOKED_AT) for reason in each.reasons
        )
    told = ", ".join(f"{reason} ({count})" for reason, count in kept.most_common())
    message = f"Studies and results take {size / 1e9:.1f} GB; {due} are to be deleted." + (
        f" Old ones that stay: {told}." if told else ""
    )
    if limits.max_bytes is not None and size > limits.max_bytes and not due:
        mend = "`lungnode studies retention` names what keeps the rest; or allow more."
        return Check(
            "retention", Status.WARNING, f"{message} Allowed are {limits.max_bytes / 1e9:.1f} GB.", mend
        )
    return Check("retention", Status.OK, message)
