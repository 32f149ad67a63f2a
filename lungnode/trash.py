"""Folders on their way out: each leaves its place in one step, and is emptied when that step is committed.

    <root>/.trash/<name>.<random>/

A folder that lies here is deleted, or was about to be when its program was killed: which of the two, the rows
say that name its files. It stays on its own file system, so leaving is one rename.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lungnode.durable import sync_folder
from lungnode.settings import Settings

FOLDER: Final = ".trash"  # below each root; no UID begins with a dot


@dataclass(frozen=True)
class Trash:
    """One folder that left its place."""

    path: Path

    @property
    def root(self) -> Path:
        """Below which it lay."""
        return self.path.parent.parent

    @property
    def name(self) -> str:
        """What it was called there."""
        return self.path.name.rpartition(".")[0]

    def files(self) -> Iterator[Path]:
        """Yield every file in it, at any depth."""
        return (path for path in self.path.rglob("*") if path.is_file())

    def place_of(self, file: Path) -> Path:
        """Return where a file of it lay."""
        return self.root / self.name / file.relative_to(self.path)

    def empty(self) -> bool:
        """Delete it, and tell whether it is gone; who loses against another that does the same goes on."""
        shutil.rmtree(self.path, ignore_errors=True)
        return not self.path.exists()


def roots(settings: Settings) -> Iterator[Path]:
    """Yield every folder below which a study has one of its own."""
    yield settings.archive
    yield settings.outputs
    yield from sorted(path for path in settings.cache.glob("*") if path.is_dir())


def throw_away(root: Path, name: str) -> Trash | None:
    """Take a folder from its place, durably; None where there is none.

    Raises:
        OSError: The file system refuses it.
    """
    folder = root / name
    if not folder.is_dir():
        return None
    bin_ = root / FOLDER
    bin_.mkdir(mode=0o750, exist_ok=True)
    target = bin_ / f"{name}.{os.urandom(4).hex()}"
    folder.rename(target)
    sync_folder(bin_)
    sync_folder(root)
    return Trash(target)


def trash_of(root: Path) -> list[Trash]:
    """Return what lies in the trash of a root."""
    return [Trash(path) for path in sorted((root / FOLDER).glob("*")) if path.is_dir()]
