"""What a receiver process counted, left in a file for the web, which is another process.

`<data>/metrics/receiver-<host>-<row>.json`: {"pid", "started_at", "counts"}. Counts begin anew with the
process, as those of Prometheus may.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

FOLDER: Final = "metrics"  # below the data folder
EVERY_S: Final = 5.0


class CountsFile:
    """The file of one process; no failure to write it ever stops the process."""

    def __init__(self, data: Path, row: int) -> None:
        self._path = data / FOLDER / f"receiver-{socket.gethostname()}-{row}.json"
        self._started_at = time.time()
        self._said: Mapping[str, int] | None = None

    def write(self, counts: Mapping[str, int]) -> None:
        """Leave the counts, if they are news."""
        if counts == self._said:
            return
        whole = {"pid": os.getpid(), "started_at": self._started_at, "counts": dict(counts)}
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(whole))
            part.replace(self._path)
            self._said = dict(counts)
