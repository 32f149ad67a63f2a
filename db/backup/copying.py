"""Files into a backup and out of it: each is read once, for the copy and its digest."""

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from lungnode.digest import file_digest

_CHUNK: Final = 1 << 20
# How file systems refuse a link: other disk, none known here, too many of them.
_NO_LINK: Final = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK)


def copy_file(source: Path, target: Path) -> str:
    """Copy a file with mode and times, and return the digest of what was copied.

    Raises:
        OSError: It cannot be read or written.
    """
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    shutil.copystat(source, target)
    return digest.hexdigest()


def link_or_copy(source: Path, target: Path, digest: str = "") -> str:
    """Let `target` be the same file as `source`, or a copy where there are no links; return the digest.

    Args:
        source: A file that nobody changes any more.
        target: Where there is none yet.
        digest: The file's, where it is known.
    """
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return copy_file(source, target)
    return digest or file_digest(target)


def is_unchanged(kept: Path, source: os.stat_result) -> bool:
    """Tell whether a copy that was made earlier is the file as it is now, by size and time."""
    try:
        copy = kept.stat()
    except FileNotFoundError:
        return False
    return copy.st_size == source.st_size and copy.st_mtime_ns == source.st_mtime_ns


class Folders:
    """Makes folders below `target` as they are below `source`, with their modes."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source, self._target = source, target
        self._made = {""}
        target.mkdir(parents=True, exist_ok=True)

    def make_for(self, path: str) -> None:
        """Make the folder of a file."""
        folder = path.rpartition("/")[0]
        if folder in self._made:
            return
        self.make_for(folder)
        target = self._target / folder
        target.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # it stands for objects of a store
            shutil.copymode(self._source / folder, target)
        self._made.add(folder)
