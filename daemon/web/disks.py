"""The disks that a node writes to."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from lungnode.settings import Settings


@dataclass(frozen=True)
class Disk:
    """One file system."""

    holds: str  # which of our folders, in words
    size: int  # bytes
    free: int

    @property
    def used(self) -> float:
        """The share that is used, 0 to 1."""
        return 1 - self.free / self.size if self.size else 0.0


def disks(settings: Settings) -> list[Disk]:
    """Return the disks of spool, archive, outputs and everything else; one that holds several is one.

    What is in an object store is on none of them.
    """
    kept = {} if settings.store.url else {"archive": settings.archive, "outputs": settings.outputs}
    by_device: dict[int, tuple[Path, list[str]]] = {}
    for name, folder in ({"spool": settings.spool} | kept | {"data": settings.data}).items():
        there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
        by_device.setdefault(there.stat().st_dev, (there, []))[1].append(name)
    found = []
    for there, names in by_device.values():
        usage = shutil.disk_usage(there)
        found.append(Disk(", ".join(names), usage.total, usage.free))
    return found
