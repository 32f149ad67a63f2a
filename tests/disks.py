"""Small file systems of their own, which tests fill to the last byte."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

_MB: Final = 1 << 20


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system."""

    folder: Path

    @property
    def free(self) -> int:
        """Bytes that may be written."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Write until nothing more fits, or until `leave` bytes are free."""
        with (self._filler).open("ab", buffering=0) as file, suppress(OSError):
            while not leave or self.free > leave:
                file.write(bytes(4096 if not leave else min(_MB, max(4096, self.free - leave))))

    def make_room(self) -> None:
        """Take it away again."""
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"


class Disks:
    """Mounts small disks; the fixture takes them away."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack, self._count = folder, stack, 0

    def make(self, megabytes: int) -> SmallDisk:
        """Mount one of so many MiB."""
        self._count += 1
        folder = self._folder / f"disk{self._count}"
        folder.mkdir()
        self._stack.enter_context(_mounted(folder, megabytes))
        return SmallDisk(folder)


@contextmanager
def _mounted(folder: Path, megabytes: int) -> Iterator[None]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
