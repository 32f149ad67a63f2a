"""What backups cost: many small files, and many bytes; the first one, the next one, reading it, restoring it.

python -m benchmarks.backup [--folder DIR] [--other DIR]
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from sqlalchemy import insert

from db.backup.make import Node, make_backup
from db.backup.restore import Place, restore_backup
from db.backup.verify import verify_backup
from db.models import Instance, Study
from db.session import open_engine, transaction, upgrade

SLICES: Final = 300  # a study
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_HEAD: Final = (
    "| files | bytes each | what | seconds | files/s | MB/s | peak RSS MB |\n|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Load:
    """What an archive holds."""

    studies: int
    size: int  # bytes of a file

    @property
    def files(self) -> int:
        """How many files it has."""
        return self.studies * SLICES


LOADS: Final = (Load(700, 2_000), Load(14, 526_000))


def fill(data: Path, load: Load) -> None:
    """Make the archive and its rows."""
    engine = open_engine(f"sqlite:///{data}/lungnode.sqlite3")
    upgrade(engine)
    for number in range(1, load.studies + 1):
        folder = data / "archive" / f"1.2.{number}"
        folder.mkdir(parents=True)
        rows = list(_write(folder, number, load.size))
        with transaction(engine) as session:
            session.add(Study(id=number, study_instance_uid=folder.name, created_at=NOW, changed_at=NOW))
            session.flush()
            session.execute(insert(Instance), rows)
    engine.dispose()


def _write(folder: Path, study: int, size: int) -> Iterator[dict[str, object]]:
    for number in range(SLICES):
        uid = f"{folder.name}.{number}"
        content = os.urandom(size)
        (folder / f"{uid}.dcm").write_bytes(content)
        yield {
            "study_id": study,
            "series_instance_uid": folder.name,
            "sop_instance_uid": uid,
            "sop_class_uid": "1.2",
            "transfer_syntax_uid": "1.2",
            "path": f"{folder.name}/{uid}.dcm",
            "size": size,
            "digest": sha256(content).hexdigest(),
            "received_at": NOW,
        }


def first(data: Path, backups: Path, _new: Path) -> None:
    """Back up for the first time."""
    _back_up(data, backups, NOW)


def following(data: Path, backups: Path, _new: Path) -> None:
    """Back up when nothing has changed."""
    _back_up(data, backups, NOW + timedelta(days=1))


def _back_up(data: Path, backups: Path, now: datetime) -> None:
    engine = open_engine(f"sqlite:///{data}/lungnode.sqlite3")
    make_backup(Node(data, engine, None), backups, now, lambda _: None)
    engine.dispose()


def verify(_data: Path, backups: Path, _new: Path) -> None:
    """Read the newest backup."""
    if list(verify_backup(max(backups.glob("2*")), lambda _: None)):
        raise SystemExit("a backup is damaged")


def restore(_data: Path, backups: Path, new: Path) -> None:
    """Restore the newest backup."""
    new.mkdir()
    engine = open_engine(f"sqlite:///{new}/lungnode.sqlite3")
    found = restore_backup(
        max(backups.glob("2*")), Place(new, engine), NOW, replace=False, progress=lambda *_: None
    )
    engine.dispose()
    if found.damaged or found.absent:
        raise SystemExit("what was restored is not whole")


STEPS: Final[tuple[Callable[[Path, Path, Path], None], ...]] = (first, following, verify, restore)


def timed(step: Callable[[Path, Path, Path], None], *places: Path) -> tuple[float, int]:
    """Run a step in this process; return its seconds and the most memory it took, in bytes."""
    os.sync()
    begin = time.perf_counter()
    step(*places)
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(load: Load, folder: Path, other: Path) -> None:
    """Print the rows of one load."""
    data = Path(tempfile.mkdtemp(prefix="lungnode-backup-", dir=folder))
    there = Path(tempfile.mkdtemp(prefix="lungnode-backup-", dir=other))
    try:
        fill(data, load)
        for step in STEPS:
            with ProcessPoolExecutor(1) as pool:  # a process each: its memory is its own
                seconds, peak = pool.submit(timed, step, data, there / "backups", there / "new").result()
            cells = (f"{load.files:,}", f"{load.size:,}", step.__name__, f"{seconds:.1f}")
            per_s = (load.files / seconds, load.files * load.size / seconds / 1e6)
            print(
                "|",
                *(f"{cell} |" for cell in (*cells, *(f"{each:,.0f}" for each in per_s), f"{peak / 1e6:.0f}")),
            )
    finally:
        shutil.rmtree(data)
        shutil.rmtree(there)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="disk of the node")
    parser.add_argument("--other", type=Path, help="disk of the backups; default: the same, which links")
    options = parser.parse_args()
    print(_HEAD)
    for load in LOADS:
        measure(load, options.folder, options.other or options.folder)


if __name__ == "__main__":
    main()
