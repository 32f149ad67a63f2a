"""What it costs to make one received file durable, without any receiver."""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

_FILES: Final = 24  # a thread


def sync_cost_s(folder: Path, content: bytes, threads: int) -> list[float]:
    """Return the seconds of fdatasync, rename and directory fsync of each file, `threads` at once.

    Each thread has a directory of its own, as each association has.
    """
    with tempfile.TemporaryDirectory(dir=folder) as parent:
        costs: list[float] = []
        workers = [
            threading.Thread(target=_sync_files, args=(Path(parent) / str(number), content, costs))
            for number in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return costs


def _sync_files(folder: Path, content: bytes, costs: list[float]) -> None:
    folder.mkdir()
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(_FILES):
        descriptor = os.open(folder / f"{number}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, content)
        start = time.perf_counter()
        os.fdatasync(descriptor)
        os.close(descriptor)
        (folder / f"{number}.part").rename(folder / f"{number}.dcm")
        os.fsync(directory)
        costs.append(time.perf_counter() - start)
    os.close(directory)
