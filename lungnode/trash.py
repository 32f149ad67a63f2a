"""Folders on their way out: each leaves its place in one step, and is emptied when that step is committed.

    <root>/.trash/<name>.<random>/

A folder that lies here is deleted, or was about to be when its program was killed: which of the two, the rows
say that name its files. It stays on its own file system, so leaving is one rename.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lungnode.durable import sync_folder

FOLDER: Final = ".trash"  # below each root; no UID begins with a dot


@dataclass(frozen=True)
class FolderTrash:
    """One folder that left its place."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def root(self) -> Path:
        """Below which it lay."""
        return self.path.parent.parent

    @property
    def name(self) -> str:
        """What it was called there."""
        return self.path.name.rpartition(".")[0]

    def paths(self) -> list[str]:
        """Return where its files, at any depth, lay below the root."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return [f"{self.name}/{file.relative_to(self.path)}" for file in files]

    def put_back(self, path: str) -> None:
        """Move a file back to where it lay, unless there is one."""
        place = self.root / path
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            (self.path / Path(path).relative_to(self.name)).rename(place)
            sync_folder(place.parent)
            sync_folder(self.root / self.name)

    def empty(self) -> bool:
        """Delete it, and tell whether it is gone; who loses against another that does the same goes on."""
        shutil.rmtree(self.path, ignore_errors=True)
        return not self.path.exists()


@dataclass(frozen=True)
class FolderBin:
    """A folder in which each study has one of its own."""

    root: Path

    def throw_away(self, study: str) -> FolderTrash | None:
        """Take a folder from its place, durably; None where there is none.

        Raises:
            OSError: The file system refuses it.
        """
        folder = self.root / study
        if not folder.is_dir():
            return None
        bin_ = self.root / FOLDER
        bin_.mkdir(mode=0o750, exist_ok=True)
        target = bin_ / f"{study}.{os.urandom(4).hex()}"
        folder.rename(target)
        sync_folder(bin_)
        sync_folder(self.root)
        return FolderTrash(target)

    def trash(self) -> list[FolderTrash]:
        """Return what lies in the trash."""
        return [FolderTrash(path) for path in sorted((self.root / FOLDER).glob("*")) if path.is_dir()]
