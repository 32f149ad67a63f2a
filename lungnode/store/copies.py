"""Local copies of an object store's files: checked when they come, gone when they have not been used lately.

    <cache>/archive/<study>/…, <cache>/outputs/<study>/…

A copy has the time at which its file was received as its time of change, and when it was used last as its
time of access. Whoever is given a path may rely on it for an hour.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final

from lungnode.store.files import StoredFile

TREES: Final = ("archive", "outputs")
SPARED_S: Final = 3600.0  # since its last use
_UNUSED_S: Final = 86_400.0  # of a study that was deleted on another host, nothing stays longer
_NOTED_S: Final = 600.0  # a use is written down so often
_SWEPT_S: Final = 3600.0
_FILLED: Final = 0.9  # of the limit, after a sweep
_PART: Final = ".part"


@dataclass
class Copies:
    """The copies of one tree; the limit is that of all trees together."""

    cache: Path
    tree: str
    limit: int
    _lock: Lock = field(default_factory=Lock, repr=False)
    _added: int = 0
    _swept: float = 0.0

    def __reduce__(self) -> tuple[type["Copies"], tuple[Path, str, int]]:
        """Let another process use the same copies."""
        return Copies, (self.cache, self.tree, self.limit)

    @property
    def root(self) -> Path:
        """Folder of the copies."""
        return self.cache / self.tree

    def has(self, file: StoredFile) -> bool:
        """Tell whether there is a copy, and note that it is used."""
        path = self.root / file.path
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        if file.size not in (-1, found.st_size):
            return False
        now = time.time()
        if now - found.st_atime > _NOTED_S:
            with suppress(FileNotFoundError):
                os.utime(path, ns=(int(now * 1e9), found.st_mtime_ns))
        return path.exists()

    @contextmanager
    def written(self, path: str, changed_ns: int) -> Iterator[BinaryIO]:
        """Open a file that becomes the copy when the block ends well."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name[-60:]}.{os.urandom(4).hex()}{_PART}")
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
            os.utime(part, ns=(time.time_ns(), changed_ns))
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        self._count(size)

    def adopt(self, source: Path, path: str) -> None:
        """Let a file that is durable here be the copy as well; where that takes more than a link, do not."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:
            return
        now = time.time_ns()
        found = target.stat()
        os.utime(target, ns=(now, found.st_mtime_ns))
        self._count(found.st_size)

    def drop(self, path: str) -> None:
        """Remove a copy."""
        (self.root / path).unlink(missing_ok=True)

    def _count(self, size: int) -> None:
        """Sweep when much has come, or when that was not done for long."""
        with self._lock:
            self._added += size
            is_due = self._added > self.limit * (1 - _FILLED) or time.monotonic() - self._swept > _SWEPT_S
            if is_due:
                self._added, self._swept = 0, time.monotonic()
        if is_due:
            self.sweep()

    def sweep(self, now: float | None = None) -> None:
        """Remove what was not used for a day, and the least used until the rest fits; see SPARED_S."""
        now = time.time() if now is None else now
        found = sorted(self._found())
        total = sum(size for _, size, _ in found)
        enough = self.limit if total <= self.limit else self.limit * _FILLED
        for used, size, path in found:
            unused = now - used
            if unused < SPARED_S or (total <= enough and unused < _UNUSED_S):
                break
            path.unlink(missing_ok=True)
            total -= size
            with suppress(OSError):  # not empty
                path.parent.rmdir()

    def _found(self) -> Iterator[tuple[float, int, Path]]:
        for tree in TREES:
            for folder, _, names in os.walk(self.cache / tree):
                for name in names:
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):
                        status = path.stat()
                        yield status.st_atime, status.st_size, path
