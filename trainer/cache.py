"""The compressed training cache: of each study the lung slices of the chosen series, in the lung window.

    <cache>/<Study Instance UID>/<revision, window and encoding>/0001.jpg, 0002.jpg, …, done.json

A study's folder appears whole, under its name, or not at all: it is written under another name and renamed.
Whatever kills a build costs the studies under way, and the next build goes on. Nothing is synchronised to
the disk, for the archive has it all; instead every slice is compared with its digest when a training begins.
"""

import hashlib
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lungnode.errors import UnavailableError
from lungnode.pixels import WINDOW_CENTER, WINDOW_WIDTH, Gray
from lungnode.recipe import Part
from lungnode.store import Store, StoredFile
from trainer.jpeg import encode_jpeg, encode_png

DONE_FILE: Final = "done.json"
VERSION: Final = 2  # of what a done.json means and of how slices are chosen; another one is built anew


@dataclass(frozen=True)
class StudyFiles:
    """The files of one revision of a study."""

    study_instance_uid: str
    revision: int
    paths: tuple[Path, ...]
    digest: str  # SHA-256 over those of the files: a study deleted and received again is another one
    archive: Store | None = field(default=None, compare=False)  # None: the paths are all there is to it
    stored: tuple[StoredFile, ...] = ()  # the files as the archive has them

    def fetch(self) -> None:
        """See that the files are at their paths.

        Raises:
            UnavailableError: The archive is away, or a file is damaged.
        """
        if self.archive is not None:
            self.archive.fetch(self.stored)


class CachedSlice(Part):
    """One slice in the cache."""

    name: str
    size: int  # bytes
    sha256: str
    position_mm: float | None = None  # along the slice normal; None: the headers do not say


class CachedStudy(Part):
    """What the cache has of a study, and what it came from; sizes in bytes."""

    version: int
    source: str  # StudyFiles.digest
    slices: tuple[CachedSlice, ...]  # top to bottom
    attributes: dict[str, str]
    received: int  # all files of the study
    received_slices: int  # the files of the slices that were kept
    stored_pixels: int  # of those, two bytes a pixel: what they are without compression
    failures: tuple[str, ...] = ()  # a sentence for each slice of the series that cannot be decoded

    @property
    def size(self) -> int:
        """Bytes that its slices take in the cache."""
        return sum(each.size for each in self.slices)


@dataclass(frozen=True)
class Cache:
    """One encoding of studies below a folder."""

    folder: Path
    quality: int | None  # of JPEG, 1 to 100; None: PNG, as a worker sees a slice

    def entry(self, files: StudyFiles) -> Path:
        """Return the folder of a study's slices, which may not be there yet."""
        window = f"c{WINDOW_CENTER:g}_w{WINDOW_WIDTH:g}"
        encoding = "png" if self.quality is None else f"jpeg{self.quality}"
        return self.folder / files.study_instance_uid / f"r{files.revision}_{window}_{encoding}"

    def read(self, files: StudyFiles) -> CachedStudy | None:
        """Return what is kept of a study; None where there is nothing, or it is not whole."""
        entry = self.entry(files)
        try:
            study = CachedStudy.model_validate_json((entry / DONE_FILE).read_bytes())
            whole = all(_digest((entry / each.name).read_bytes()) == each.sha256 for each in study.slices)
        except (OSError, ValueError):
            return None
        return study if whole and (study.version, study.source) == (VERSION, files.digest) else None

    def write(
        self,
        files: StudyFiles,
        grays: Sequence[Gray],
        positions_mm: Sequence[float | None],
        study: CachedStudy,
    ) -> CachedStudy:
        """Keep the slices of a study; `study` tells the rest.

        Raises:
            UnavailableError: The folder cannot be written, or the disk is full.
        """
        entry = self.entry(files)
        try:
            with _made_whole(entry) as part:
                slices = tuple(
                    self._write_slice(part, number, gray, position_mm)
                    for number, (gray, position_mm) in enumerate(zip(grays, positions_mm, strict=True), 1)
                )
                kept = study.model_copy(update={"slices": slices})
                (part / DONE_FILE).write_text(kept.model_dump_json(indent=1), encoding="utf-8")
        except OSError as error:
            raise UnavailableError(f"The cache {entry} cannot be written: {error.strerror}.") from error
        return kept

    def _write_slice(self, folder: Path, number: int, gray: Gray, position_mm: float | None) -> CachedSlice:
        data = encode_png(gray) if self.quality is None else encode_jpeg(gray, self.quality)
        name = f"{number:04}.{'png' if self.quality is None else 'jpg'}"
        (folder / name).write_bytes(data)
        return CachedSlice(name=name, size=len(data), sha256=_digest(data), position_mm=position_mm)


@contextmanager
def _made_whole(entry: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes the place of `entry` when the block ends well."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    _clear_parts(entry.parent)
    part = entry.with_name(f".{entry.name}.{platform.node()}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        shutil.rmtree(entry, ignore_errors=True)  # what was there is not whole, or of another study
        part.rename(entry)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _clear_parts(folder: Path) -> None:
    """Remove what killed builds of this host have left."""
    for part in folder.glob(f".*.{platform.node()}.*.part"):
        process = int(part.name.split(".")[-2])
        if not Path(f"/proc/{process}").exists() or process == os.getpid():
            shutil.rmtree(part, ignore_errors=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
