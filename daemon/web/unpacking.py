"""Uploaded files: what is taken, and how a zip is unpacked without trusting a word of it.

Files get names of ours, so no name of theirs reaches the disk.
"""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from lungnode.errors import UnusableError
from lungnode.untrusted import may_grow_to

MEMBERS: Final = 5_000  # of one upload
_LONGEST_NAME: Final = 100
_PIECE: Final = 1 << 20
_PREAMBLE: Final = 128  # bytes before "DICM". Source: PS3.10 7.1
_HEAD: Final = _PREAMBLE + 4
_ZIP: Final = b"PK\x03\x04"
_PICTURES: Final = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}
_ENCRYPTED: Final = 0x1
# Beside images in what viewers and CD writers make.
_SKIPPED: Final = ("DICOMDIR", "__MACOSX", "Thumbs.db", "desktop.ini", ".DS_Store")


@dataclass
class Unpacked:
    """Where the files of an upload go, and how much there may be."""

    folder: Path
    most_bytes: int  # unpacked
    names: dict[str, str] = field(default_factory=dict, init=False)  # theirs, by ours
    files: int = field(default=0, init=False)
    size: int = field(default=0, init=False)

    def take(self, name: str, source: IO[bytes]) -> None:
        """Take a file: a picture, a DICOM object, or a zip of those.

        Raises:
            UnusableError: It is none of them, or too much.
            OSError: It cannot be written.
        """
        head = source.read(_HEAD)
        source.seek(0)
        if head.startswith(_ZIP):
            self._take_zip(name, source)
        elif suffix := _suffix(head):
            self._write(self._named(name, suffix), _pieces(source), self.most_bytes)
        else:
            raise UnusableError(f"{name} is neither DICOM, JPEG, PNG nor a zip of those.")

    def _take_zip(self, name: str, source: IO[bytes]) -> None:
        before = self.files
        try:
            with zipfile.ZipFile(source) as archive:
                members = archive.infolist()
                if len(members) > MEMBERS:
                    raise UnusableError(f"{name} has {len(members)} members; {MEMBERS} are taken.")
                for member in members:
                    self._take_member(name, archive, member)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise UnusableError(f"{name} is a damaged zip: {type(error).__name__}.") from error
        if self.files == before:
            raise UnusableError(f"{name} holds no DICOM, JPEG or PNG file.")

    def _take_member(self, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        if member.is_dir() or any(part in _SKIPPED for part in Path(member.filename).parts):
            return
        _check_member(name, member)
        with archive.open(member) as source:
            head = source.read(_HEAD)
            suffix = _suffix(head)
            if suffix:
                most = may_grow_to(member.compress_size)
                path = self._named(member.filename, suffix)
                self._write(path, _pieces(source, head), min(most, self.most_bytes))

    def _named(self, name: str, suffix: str) -> Path:
        """Return the path of the next file, and note what it is called by whom it is from."""
        if self.files >= MEMBERS:
            raise UnusableError(f"At most {MEMBERS} files are taken.")
        self.files += 1
        path = self.folder / f"{self.files:05d}{suffix}"
        self.names[path.name] = name.replace("\\", "/").rpartition("/")[2][:_LONGEST_NAME]
        return path

    def _write(self, path: Path, pieces: Iterator[bytes], most: int) -> None:
        """Write a file while it stays within its bounds, whatever headers say of its size."""
        written = 0
        with path.open("wb") as target:
            for piece in pieces:
                written += len(piece)
                if written > most or self.size + written > self.most_bytes:
                    raise UnusableError("The files are too large, or grow too much when they are unpacked.")
                target.write(piece)
        self.size += written


def _suffix(head: bytes) -> str:
    if head[_PREAMBLE:_HEAD] == b"DICM":
        return ".dcm"
    return next((suffix for start, suffix in _PICTURES.items() if head.startswith(start)), "")


def _check_member(name: str, member: zipfile.ZipInfo) -> None:
    """Refuse what no honest zip of images has."""
    path = member.filename.replace("\\", "/")
    if path.startswith("/") or ".." in path.split("/") or path[1:2] == ":":
        raise UnusableError(f"{name} holds a member that leads out of its folder.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UnusableError(f"{name} holds a symbolic link.")
    if member.flag_bits & _ENCRYPTED:
        raise UnusableError(f"{name} is encrypted.")


def _pieces(source: IO[bytes], head: bytes = b"") -> Iterator[bytes]:
    if head:
        yield head
    while piece := source.read(_PIECE):
        yield piece


def remove(folder: Path) -> None:
    """Delete the folder of an upload; one that is gone already is none."""
    shutil.rmtree(folder, ignore_errors=True)
