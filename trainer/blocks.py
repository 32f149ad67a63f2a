"""A store of arrays by key, in memory-mapped files: what is costly to make is made once.

A block is some rows of each array, `NAME.0.npy`, `NAME.1.npy`, and a list of their keys, `NAME.json`. The
list is written last, so a block is whole or it is not there, and whoever was killed goes on behind the last
whole one. Several programs may fill one store: a block's name is a digest of its keys.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lungnode.durable import replaced
from lungnode.errors import UnavailableError

Array = NDArray[Any]

_BEING_FORGOTTEN: Final = "being forgotten "  # begins keys that nobody asks for
_FORGOTTEN: Final = "forgotten "


@dataclass(frozen=True)
class _Place:
    block: str
    row: int


def forget(folder: Path, is_forgotten: Callable[[str], bool]) -> int:
    """Overwrite the rows of some keys in a store with zeros, and drop the keys; returns how many.

    Nobody may be about to read them. Blocks stay where they are, for others read their other rows. A repeat
    goes on where one was killed: a key that is marked is not found any more, and its row may not be zero yet.

    Raises:
        UnavailableError: The folder cannot be read or written.
    """
    count = 0
    try:
        for path in sorted(folder.glob("*.json")):
            index = json.loads(path.read_bytes())
            rows = [
                row
                for row, key in enumerate(index["keys"])
                if is_forgotten(key) or key.startswith(_BEING_FORGOTTEN)
            ]
            left = [key for key in index["impossible"] if not is_forgotten(key)]
            if not rows and len(left) == len(index["impossible"]):
                continue
            count += len(rows)
            index["impossible"] = left
            _mark(path, index, rows, _BEING_FORGOTTEN)
            for number in range(index["arrays"]):
                _overwrite(folder / f"{path.stem}.{number}.npy", rows)
            _mark(path, index, rows, _FORGOTTEN)
    except OSError as error:
        raise UnavailableError(f"The folder {folder} cannot be used: {error.strerror}.") from error
    return count


def _mark(path: Path, index: dict[str, Any], rows: Sequence[int], mark: str) -> None:
    for row in rows:
        index["keys"][row] = f"{mark}{path.stem}.{row}"
    with replaced(path) as file:
        file.write(json.dumps(index).encode())


def _overwrite(path: Path, rows: Sequence[int]) -> None:
    if rows:
        array = np.load(path, mmap_mode="r+")
        array[list(rows)] = 0
        array.flush()


class BlockStore:
    """Rows of several arrays, found by key."""

    def __init__(self, folder: Path) -> None:
        """Open the store of a folder, which is made where it is absent.

        Raises:
            UnavailableError: The folder cannot be made or read.
        """
        self.folder = folder
        self._places: dict[str, _Place] = {}
        self._impossible: set[str] = set()
        self._arrays: dict[str, int] = {}  # number of arrays of each block
        self._cpu_s: dict[str, float] = {}  # what a row of each block cost
        self._opened: dict[str, list[Array]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.json")):
                self._learn(path.stem, json.loads(path.read_bytes()))
        except OSError as error:
            raise UnavailableError(f"The folder {folder} cannot be used: {error.strerror}.") from error

    def _learn(self, block: str, index: dict[str, Any]) -> None:
        self._places |= {key: _Place(block, row) for row, key in enumerate(index["keys"])}
        self._impossible.update(index["impossible"])
        self._arrays[block] = index["arrays"]
        self._cpu_s[block] = index["cpu_s"] / max(1, len(index["keys"]))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def is_settled(self, key: str) -> bool:
        """Return whether a key has its row, or was found to have none."""
        return key in self._places or key in self._impossible

    def cpu_seconds(self, keys: Iterable[str]) -> float:
        """Return what the rows of some keys cost when they were made."""
        return sum(self._cpu_s[self._places[key].block] for key in keys)

    def add(
        self, keys: Sequence[str], arrays: Sequence[Array], impossible: Sequence[str] = (), cpu_s: float = 0.0
    ) -> None:
        """Keep a block of rows.

        Args:
            keys: One a row.
            arrays: Each with a row a key.
            impossible: Keys of which nothing can be made, so that nobody tries again.
            cpu_s: CPU time that the block took.

        Raises:
            UnavailableError: The disk is full, or cannot be written.
        """
        block = hashlib.sha256("\n".join([*keys, "", *impossible]).encode()).hexdigest()[:32]
        index = {"keys": list(keys), "impossible": list(impossible), "arrays": len(arrays), "cpu_s": cpu_s}
        try:
            for number, array in enumerate(arrays):
                with replaced(self.folder / f"{block}.{number}.npy") as file:
                    np.save(file, array)
            with replaced(self.folder / f"{block}.json") as file:
                file.write(json.dumps(index).encode())
        except OSError as error:
            raise UnavailableError(f"{self.folder} cannot be written: {error.strerror}.") from error
        self._learn(block, index)

    def take(self, keys: Sequence[str], which: Sequence[int] | None = None) -> list[Array]:
        """Return the rows of some keys, of each array or of those in `which`; others are not read.

        Raises:
            KeyError: A key has no row.
        """
        places = [self._places[key] for key in keys]
        rows = [self._row(place, which) for place in places]
        return [np.stack(parts) for parts in zip(*rows, strict=True)]

    def _row(self, place: _Place, which: Sequence[int] | None) -> list[Array]:
        arrays = self._open(place.block)
        return [arrays[number][place.row] for number in (range(len(arrays)) if which is None else which)]

    def _open(self, block: str) -> list[Array]:
        if block not in self._opened:
            paths = [self.folder / f"{block}.{number}.npy" for number in range(self._arrays[block])]
            self._opened[block] = [np.load(path, mmap_mode="r") for path in paths]
        return self._opened[block]
