"""What `benchmarks.hostile` does to those who read received files: header, decoding, the whole clerk."""

import logging
import multiprocessing
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tests.conftest import SHARED_DATA
from tests.hostile.clerk import index_damaged
from tests.hostile.datasets import seeds_from
from tests.hostile.reading import LIMIT_S, Readings, read_all
from tests.hostile.seeds import some_files

_FORK: Final = multiprocessing.get_context("fork")
_PIECE: Final = 500  # files a task
_PIECE_S: Final = 60 + LIMIT_S
Found = dict[str, Any]


def damaged_data_sets(folder: Path, seed: int, first: int, count: int) -> Found:
    """Read damaged files, in processes that may die of them."""
    seeds = seeds_from(some_files(SHARED_DATA, folder))
    total = Readings()
    with _FORK.Pool(2, initializer=_be_quiet) as pool:
        waiting = []
        for start in range(first, first + count, _PIECE):
            numbers = range(start, min(start + _PIECE, first + count))
            task = (seeds, seed, numbers, folder / f"{start}.dcm")
            waiting.append((start, pool.apply_async(read_all, task)))
        for start, result in waiting:
            try:
                total.add(result.get(timeout=_PIECE_S))
            except multiprocessing.TimeoutError:  # a process that died never answers
                total.problems.append(f"cases {start} to {start + _PIECE}: no answer")
    return asdict(total) | {"outcomes": dict(total.outcomes)}


def clerk_rounds(folder: Path, seed: int, first: int, count: int) -> Found:
    """Let a clerk index damaged files between the slices of an honest study."""
    _be_quiet()
    seeds = seeds_from(some_files(SHARED_DATA, folder))
    return index_damaged(folder, seeds, seed, range(first, first + count))


def _be_quiet() -> None:
    logging.disable()
    warnings.simplefilter("ignore")
