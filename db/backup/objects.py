"""Archive and outputs of an object store, into a backup and out of it: each object is read or sent once."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from db.backup.copying import link_or_copy
from db.backup.verify import damage_of
from lungnode.store import Store

AT_ONCE: Final = 256  # files that are looked at together
_THREADS: Final = 16


@dataclass(frozen=True)
class Wanted:
    """A file that a row names."""

    path: str  # below the data folder, as if it were there
    digest: str
    kept: Path | None  # the same file in the backup before


class Objects:
    """What of a data folder is in stores of objects instead."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        """Take the stores by the name of the folder that each stands for; none: all is in folders."""
        self._stores = stores

    def holds(self, path: str) -> bool:
        """Tell whether a path below the data folder is an object."""
        return path.partition("/")[0] in self._stores

    def bring(self, wanted: Sequence[Wanted], folder: Path) -> list[str]:
        """Put files into a folder; return the digest of each, which is empty where the store has lost it.

        Raises:
            UnavailableError: The store is away.
        """
        with ThreadPoolExecutor(_THREADS, "backup") as pool:
            return list(pool.map(partial(self._bring, folder), wanted))

    def _bring(self, folder: Path, wanted: Wanted) -> str:
        target = folder / wanted.path
        if wanted.kept is not None and wanted.kept.is_file():  # an object never changes
            return link_or_copy(wanted.kept, target, wanted.digest)
        tree, _, path = wanted.path.partition("/")
        found = self._stores[tree].read_back(path, target)
        return found[1] if found else ""

    def send(self, files: Mapping[str, tuple[Path, str]]) -> dict[str, str]:
        """Store files by path, each with its digest; return what is wrong with each, which is then left out.

        Raises:
            UnavailableError: The store is away.
        """
        wrong = {path: damage_of(file, digest) for path, (file, digest) in files.items()}
        whole = {path: file for path, (file, _) in files.items() if not wrong[path]}
        for tree, store in self._stores.items():
            store.prepare(dict(_below(tree, whole)))
        return wrong

    def absent(self, paths: Sequence[str]) -> list[str]:
        """Return the files that are not there."""
        there = set()
        for tree, store in self._stores.items():
            mine = [path for path, _ in _below(tree, dict.fromkeys(paths, Path()))]
            there |= {f"{tree}/{path}" for path in store.present(mine)}
        return [path for path in paths if path not in there]


def _below(tree: str, files: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    prefix = f"{tree}/"
    yield from ((path.removeprefix(prefix), file) for path, file in files.items() if path.startswith(prefix))
