"""A store that is a folder, on a disk of this host or on a mount that several share."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lungnode.digest import file_digest
from lungnode.durable import make_folder, sync_folder
from lungnode.store.files import Arrival, StoreAwayError, StoredFile
from lungnode.store.placing import place
from lungnode.trash import FolderBin


@dataclass(frozen=True)
class FolderStore(FolderBin):
    """Files at `<root>/<study>/…`."""

    def place_of(self, path: str) -> str:
        """Return the file."""
        return str(self.root / path)

    def check(self) -> None:
        """Make sure that the folder is there: that of a mount may be away."""
        if not self.root.is_dir():
            raise StoreAwayError(f"The folder {self.root} is not there.")

    def probe(self) -> None:
        """Make sure that we may write where it is, or will be."""
        there = next(each for each in (self.root, *self.root.parents) if each.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise StoreAwayError(f"{there} cannot be written.")

    def keep(self, arrivals: Sequence[Arrival]) -> list[str]:
        """Link files to their places, or copy them where that is another disk."""
        make_folder(self.root)
        paths = []
        for arrival in arrivals:
            kept = place(arrival.source, self.root / arrival.study, arrival.name, arrival.digest)
            paths.append(f"{arrival.study}/{kept.name}")
        touched = {self.root / arrival.study for arrival in arrivals}
        # A study's folder before the root, which names it.
        for folder in (*sorted(touched), *([self.root] if touched else [])):
            sync_folder(folder)
        return paths

    def present(self, paths: Sequence[str]) -> set[str]:
        """Look for each."""
        return {path for path in paths if (self.root / path).is_file()}

    def path_for(self, folder: str, stem: str, digest: str) -> str:  # noqa: ARG002 - a name is enough here
        """Return a path that a repeat returns as well: the transaction decides whose file lies there."""
        return f"{folder}/{stem}.dcm"

    def prepare(self, files: Mapping[str, Path]) -> None:
        """Do nothing: the places may be another run's until the transaction."""

    def place(self, files: Mapping[str, Path]) -> None:
        """Move files to their places."""
        folders = {(self.root / path).parent for path in files}
        for folder in folders:
            make_folder(folder)
        for path, file in files.items():
            file.rename(self.root / path)
        for folder in folders:
            sync_folder(folder)

    def fetch(self, files: Sequence[StoredFile]) -> list[Path]:
        """Return the files themselves."""
        return [self.root / file.path for file in files]

    def studies(self) -> Iterator[str]:
        """Yield the folders, in their order."""
        yield from sorted(path.name for path in self.root.glob("[0-9]*") if path.is_dir())

    def sizes(self, study: str) -> dict[str, int]:
        """Look into a study's folder to its depth."""
        return {path.removeprefix(f"{self.root}/"): size for path, size in _dicom_files(self.root / study)}

    def read_back(self, path: str, into: Path | None = None) -> tuple[int, str] | None:
        """Read a file.

        Raises:
            StoreAwayError: It cannot be read, and that is not the file's fault.
        """
        file = self.root / path
        try:
            if into is not None:
                shutil.copy2(file, into)
            return file.stat().st_size, file_digest(into or file)
        except FileNotFoundError:
            self.check()
            return None
        except OSError as error:
            if error.errno == errno.EIO:
                return 0, ""
            raise StoreAwayError(f"The folder {self.root} cannot be read: {error.strerror}.") from error


def _dicom_files(folder: Path) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _dicom_files(Path(entry.path))
                elif entry.name.endswith(".dcm"):
                    yield entry.path, entry.stat().st_size
    except FileNotFoundError:
        return  # it went in this moment
