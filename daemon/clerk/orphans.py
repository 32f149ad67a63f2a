"""Rows without files, files without rows, and files that are not what their rows say."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db.models import Analysis, Instance, Output, Quarantined, Study
from db.session import transaction
from lungnode.digest import file_digest
from lungnode.settings import Settings

_PIECE: Final = 200  # studies looked up at once


class Trouble(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"  # a row names it
    CHANGED = "changed"  # it is not what its row says
    UNKNOWN = "unknown"  # no row names it


@dataclass(frozen=True)
class Finding:
    """One file that is not as it should be."""

    trouble: Trouble
    path: Path
    mend: str  # what to do about it


@dataclass(frozen=True)
class _Named:
    """A file as its row says it is."""

    size: int | None = None  # None: the row does not say
    digest: str = ""


_SEND_AGAIN: Final = "Have the study sent again, or take the file from a backup."
_ANALYSE_AGAIN: Final = "Take it from a backup, or analyse the study again."
_REINDEX: Final = "Run `lungnode studies reindex`."
_OUTPUT: Final = "It belongs to an analysis that did not end, or to none: it can be deleted."
_QUARANTINE: Final = "Run `lungnode studies reindex`, or delete it."


def find_orphans(
    engine: Engine, settings: Settings, *, digests: bool, progress: Callable[[int], None]
) -> list[Finding]:
    """Compare all rows with all files, and look twice at what does not agree: the node may be at work.

    Args:
        engine: Of the node's database.
        settings: Say where the files are.
        digests: Read every file from start to end as well.
        progress: Called with the number of studies that were looked at.

    Raises:
        UnavailableError: The database is away.
    """
    suspects = list(_look(engine, settings, progress, digests=digests))
    return [finding for finding in suspects if _is_still_true(engine, settings, finding)]


def _look(
    engine: Engine, settings: Settings, progress: Callable[[int], None], *, digests: bool
) -> Iterator[Finding]:
    known: set[str] = set()
    done = 0
    for studies in _pieces(engine):
        known.update(studies)
        for uid, received, composed in _rows(engine, studies):
            yield from _compare(settings.archive, uid, received, (_SEND_AGAIN, _REINDEX), digests=digests)
            yield from _compare(settings.outputs, uid, composed, (_ANALYSE_AGAIN, _OUTPUT), digests=digests)
            done += 1
            progress(done)
    for root, mend in ((settings.archive, _REINDEX), (settings.outputs, _OUTPUT)):
        yield from _unknown_studies(root, known, mend)
    yield from _quarantine(engine, settings.quarantine)


def _pieces(engine: Engine) -> Iterator[list[str]]:
    last = 0
    while True:
        with transaction(engine) as session:
            query = select(Study.id, Study.study_instance_uid).where(Study.id > last).order_by(Study.id)
            rows = session.execute(query.limit(_PIECE)).all()
        if not rows:
            return
        last = rows[-1][0]
        yield [uid for _, uid in rows]


Files = Mapping[str, _Named]


def _rows(engine: Engine, studies: Collection[str]) -> Iterator[tuple[str, Files, Files]]:
    """Yield each study with the files that its rows say are there."""
    with transaction(engine) as session:
        received, composed = _received(session, studies), _composed(session, studies)
    for uid in studies:
        yield uid, received.get(uid, {}), composed.get(uid, {})


def _received(session: Session, studies: Collection[str]) -> dict[str, dict[str, _Named]]:
    columns = (Study.study_instance_uid, Instance.path, Instance.size, Instance.digest)
    query = select(*columns).join(Instance, Instance.study_id == Study.id)
    there = query.where(Study.study_instance_uid.in_(studies), Instance.deleted_at.is_(None))
    return _by_study(session.execute(there))


def _composed(session: Session, studies: Collection[str]) -> dict[str, dict[str, _Named]]:
    columns = (Study.study_instance_uid, Output.path, Output.size, Output.digest)
    query = select(*columns).join(Analysis, Analysis.study_id == Study.id)
    joined = query.join(Output, Output.analysis_id == Analysis.id)
    there = joined.where(Study.study_instance_uid.in_(studies), Output.deleted_at.is_(None))
    return _by_study(session.execute(there))


def _by_study(rows: Iterable[Any]) -> dict[str, dict[str, _Named]]:
    found: dict[str, dict[str, _Named]] = {}
    for uid, path, size, digest in rows:
        found.setdefault(uid, {})[path] = _Named(size, digest)
    return found


def _compare(
    root: Path, uid: str, named: Files, mends: tuple[str, str], *, digests: bool
) -> Iterator[Finding]:
    found = {str(path.relative_to(root)): path for path in (root / uid).rglob("*.dcm")}
    for path, said in named.items():
        if path not in found:
            yield Finding(Trouble.MISSING, root / path, mends[0])
        elif _differs(found[path], said, digests=digests):
            yield Finding(Trouble.CHANGED, root / path, mends[0])
    for path in sorted(found.keys() - named.keys()):
        yield Finding(Trouble.UNKNOWN, root / path, mends[1])


def _differs(path: Path, said: _Named, *, digests: bool) -> bool:
    try:
        if said.size is not None and path.stat().st_size != said.size:
            return True
        return digests and file_digest(path) != said.digest
    except FileNotFoundError:
        return False  # it went in this moment


def _unknown_studies(root: Path, known: Collection[str], mend: str) -> Iterator[Finding]:
    for folder in sorted(root.glob("[0-9]*")):
        if folder.is_dir() and folder.name not in known:
            for path in sorted(folder.rglob("*.dcm")):
                yield Finding(Trouble.UNKNOWN, path, mend)


def _quarantine(engine: Engine, folder: Path) -> Iterator[Finding]:
    with transaction(engine) as session:
        named = set(session.scalars(select(Quarantined.path)))
    found = {path.name for path in folder.glob("*.dcm")}
    for name in sorted(named - found):
        yield Finding(Trouble.MISSING, folder / name, "Its row stays to tell of it.")
    for name in sorted(found - named):
        yield Finding(Trouble.UNKNOWN, folder / name, _QUARANTINE)


def _is_still_true(engine: Engine, settings: Settings, finding: Finding) -> bool:
    if finding.trouble is Trouble.CHANGED:
        return finding.path.exists()
    is_there = finding.path.exists()
    with transaction(engine) as session:
        is_named = _is_named(session, settings, finding.path)
    return is_named is not is_there


def _is_named(session: Session, settings: Settings, path: Path) -> bool:
    for root, table in ((settings.archive, Instance), (settings.outputs, Output)):
        if path.is_relative_to(root):
            own = (table.path == str(path.relative_to(root)), table.deleted_at.is_(None))
            return session.scalar(select(table.id).where(*own).limit(1)) is not None
    return session.scalar(select(Quarantined.id).where(Quarantined.path == path.name)) is not None
