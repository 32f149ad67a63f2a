"""Find the files of a list of samples that was written on another machine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lungnode.errors import UnusableError
from trainer.samples import Sample


def relocate(samples: Sequence[Sample], root: Path) -> list[Sample]:
    """Return the samples with their files below `root`, each at the longest end of its path that is there.

    Raises:
        UnusableError: A file is not there.
    """
    return [replace(sample, path=_find(sample.path, root)) for sample in samples]


def _find(path: Path, root: Path) -> Path:
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    for start in range(len(parts)):
        candidate = root.joinpath(*parts[start:])
        if candidate.is_file():
            return candidate
    raise UnusableError(f"There is no {path.name} below {root}, at none of the ends of {path}.")
