"""A small file system that can be filled: memory that is mounted, where that is allowed."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Final

SIZE: Final = 2_000_000_000  # of which only what is used takes memory
_LEFT: Final = 32_768  # what is free when it is full


class SmallDisk:
    """A mounted folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / ".ballast"

    def fill(self, seconds: float) -> None:
        """Leave next to nothing free for so long."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT)
        try:
            while not self._takes_all(descriptor):
                continue  # somebody wrote between the question and the answer
            sleep(seconds)
        finally:
            os.close(descriptor)
            self._ballast.unlink()

    def _takes_all(self, descriptor: int) -> bool:
        status = os.statvfs(self.folder)
        try:
            os.posix_fallocate(descriptor, 0, max(1, status.f_bavail * status.f_frsize - _LEFT))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return True


def may_mount() -> bool:
    """Tell whether this process may mount file systems."""
    return os.geteuid() == 0 and subprocess.run(_COMMAND, check=False, capture_output=True).returncode == 0


# In a name space of its own, so that trying leaves nothing behind.
_COMMAND: Final = ("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt")


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mount a small file system at a new folder while the block runs."""
    folder.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)), check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)
