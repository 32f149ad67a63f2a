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
from lungnode.settings import Settings
from lungnode.store import Store, open_archive, open_outputs

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
    place: str
    mend: str  # what to do about it


@dataclass(frozen=True)
class _Named:
    """A file as its row says it is."""

    size: int
    digest: str


@dataclass(frozen=True)
class _Shelf:
    """A store, and the rows that name its files."""

    store: Store
    table: type[Instance] | type[Output]
    lost: str  # what to do about a file that is missing or changed
    unknown: str

    def finding(self, trouble: Trouble, path: str) -> "_Suspect":
        """Return what seems to be wrong with a file."""
        mend = self.unknown if trouble is Trouble.UNKNOWN else self.lost
        return _Suspect(Finding(trouble, self.store.place_of(path), mend), self, path)

    def is_still_true(self, session: Session, trouble: Trouble, path: str) -> bool:
        """Look again at one file."""
        is_there = bool(self.store.present([path]))
        own = (self.table.path == path, self.table.deleted_at.is_(None))
        is_named = session.scalar(select(self.table.id).where(*own).limit(1)) is not None
        return is_there and is_named if trouble is Trouble.CHANGED else is_there is not is_named


@dataclass(frozen=True)
class _Quarantine:
    """The files that cannot be indexed."""

    folder: Path

    def is_still_true(self, session: Session, _trouble: Trouble, path: str) -> bool:
        """Look again at one file."""
        row = session.scalar(select(Quarantined.id).where(Quarantined.path == path))
        return (row is not None) is not (self.folder / path).exists()


@dataclass(frozen=True)
class _Suspect:
    """What seems to be wrong at the first look."""

    finding: Finding
    where: _Shelf | _Quarantine
    path: str


_SEND_AGAIN: Final = "Have the study sent again, or take the file from a backup."
_ANALYSE_AGAIN: Final = "Take it from a backup, or analyse the study again."
_REINDEX: Final = "Run `lungnode studies reindex`."
_OUTPUT: Final = "It belongs to an analysis that did not end, or to none: it can be deleted."
_ROW_STAYS: Final = "Its row stays to tell of it."
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
        UnavailableError: The database or the store is away.
    """
    suspects = list(_look(engine, settings, progress, digests=digests))
    return [suspect.finding for suspect in suspects if _is_still_true(engine, suspect)]


def _look(
    engine: Engine, settings: Settings, progress: Callable[[int], None], *, digests: bool
) -> Iterator[_Suspect]:
    archive = _Shelf(open_archive(settings), Instance, _SEND_AGAIN, _REINDEX)
    outputs = _Shelf(open_outputs(settings), Output, _ANALYSE_AGAIN, _OUTPUT)
    known: set[str] = set()
    done = 0
    for studies in _pieces(engine):
        known.update(studies)
        for uid, received, composed in _rows(engine, studies):
            yield from _compare(archive, uid, received, digests=digests)
            yield from _compare(outputs, uid, composed, digests=digests)
            done += 1
            progress(done)
    for shelf in (archive, outputs):
        for study in sorted(set(shelf.store.studies()) - known):
            yield from (shelf.finding(Trouble.UNKNOWN, path) for path in sorted(shelf.store.sizes(study)))
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


def _compare(shelf: _Shelf, uid: str, named: Files, *, digests: bool) -> Iterator[_Suspect]:
    found = shelf.store.sizes(uid)
    for path, said in named.items():
        if path not in found:
            yield shelf.finding(Trouble.MISSING, path)
        elif found[path] != said.size or (digests and _differs(shelf.store, path, said)):
            yield shelf.finding(Trouble.CHANGED, path)
    for path in sorted(found.keys() - named.keys()):
        yield shelf.finding(Trouble.UNKNOWN, path)


def _differs(store: Store, path: str, said: _Named) -> bool:
    # None: it went in this moment.
    return store.read_back(path) not in (None, (said.size, said.digest))


def _quarantine(engine: Engine, folder: Path) -> Iterator[_Suspect]:
    with transaction(engine) as session:
        named = set(session.scalars(select(Quarantined.path)))
    found = {path.name for path in folder.glob("*.dcm")}
    told = ((named - found, Trouble.MISSING, _ROW_STAYS), (found - named, Trouble.UNKNOWN, _QUARANTINE))
    for names, trouble, mend in told:
        for name in sorted(names):
            yield _Suspect(Finding(trouble, str(folder / name), mend), _Quarantine(folder), name)


def _is_still_true(engine: Engine, suspect: _Suspect) -> bool:
    with transaction(engine) as session:
        return suspect.where.is_still_true(session, suspect.finding.trouble, suspect.path)
