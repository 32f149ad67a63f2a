"""SHA256SUMS: the files of a backup with their digests, in the format that `sha256sum --check` reads, too."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from lungnode.errors import UnusableError

SUMS_FILE: Final = "SHA256SUMS"
# A path that begins with a slash would lead out of the backup, like one with two points.
_LINE: Final = re.compile(r"(?P<escaped>\\?)(?P<digest>[0-9a-f]{64})  (?P<path>[^/\n].*)\n")


def read_sums(path: Path) -> Iterator[tuple[str, str]]:
    """Yield path and digest of each file.

    Raises:
        UnusableError: It is damaged or cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            for line in lines:
                found = _LINE.fullmatch(line)
                if found is None or ".." in found["path"].split("/"):
                    raise UnusableError(f"{path} is damaged: {line[:80]!r} is no digest and path.")
                yield (_unescape(found["path"]) if found["escaped"] else found["path"]), found["digest"]
    except OSError as error:
        raise UnusableError(f"{path} cannot be read: {error.strerror}.") from error


def format_line(path: str, digest: str) -> str:
    """Return a line of the file. Source: sha256sum(1), which escapes names with line feeds or backslashes."""
    if "\\" not in path and "\n" not in path:
        return f"{digest}  {path}\n"
    return "\\{}  {}\n".format(digest, path.replace("\\", "\\\\").replace("\n", "\\n"))


def _unescape(name: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in name.split("\\\\"))


class Sums:
    """Digests by path while a backup is made: in a file, since an archive has millions."""

    def __init__(self, file: Path, before: Iterable[tuple[str, str]]) -> None:
        """Make the working file; `before` are the files of the backup before."""
        self._file = file
        self._connection = sqlite3.connect(file, isolation_level=None)
        # Nobody reads it after a crash.
        self._connection.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE before (path BLOB PRIMARY KEY, digest TEXT) WITHOUT ROWID;"
            "CREATE TABLE now (path BLOB PRIMARY KEY, digest TEXT, named INT DEFAULT 0) WITHOUT ROWID; BEGIN"
        )
        rows = ((_key(path), digest) for path, digest in before)
        self._connection.executemany("INSERT OR REPLACE INTO before VALUES (?, ?)", rows)

    def before(self, path: str) -> str:
        """Return a file's digest in the backup before; empty when it was not there."""
        return self._one("SELECT digest FROM before WHERE path = ?", path)

    def digest(self, path: str) -> str:
        """Return a file's digest in this backup; empty when it is not there."""
        return self._one("SELECT digest FROM now WHERE path = ?", path)

    def _one(self, query: str, path: str) -> str:
        row = self._connection.execute(query, (_key(path),)).fetchone()
        return str(row[0]) if row else ""

    def add(self, path: str, digest: str) -> None:
        """Note a file of this backup."""
        self._connection.execute("INSERT INTO now (path, digest) VALUES (?, ?)", (_key(path), digest))

    def drop(self, path: str) -> None:
        """Forget a file."""
        self._connection.execute("DELETE FROM now WHERE path = ?", (_key(path),))

    def name(self, path: str) -> None:
        """Note that a row of the database names the file."""
        self._connection.execute("UPDATE now SET named = 1 WHERE path = ?", (_key(path),))

    def unnamed(self, folder: str) -> list[str]:
        """Return the files below a folder that no row names."""
        # The slash's successor ends the range.
        bounds = (_key(f"{folder}/"), _key(f"{folder}0"))
        query = "SELECT path FROM now WHERE path > ? AND path < ? AND NOT named"
        return [_path(key) for (key,) in self._connection.execute(query, bounds)]

    def write(self, path: Path) -> int:
        """Write the list, sorted; return how many files it has."""
        count = 0
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            for key, digest in self._connection.execute("SELECT path, digest FROM now ORDER BY path"):
                file.write(format_line(_path(key), digest))
                count += 1
        return count

    def close(self) -> None:
        """Remove the working file."""
        self._connection.close()
        self._file.unlink(missing_ok=True)


def _key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _path(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
