"""Plays the clerk in long runs: takes away what hostile associations left in the spool, and nobody else's."""

import json
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

HOSTILE: Final = "HOSTILE"  # how the grammar's associations call themselves
_EVERY_S: Final = 1.0


class Janitor:
    """Works beside a receiver."""

    def __init__(self, spool: Path) -> None:
        self.removed = 0
        self._spool = spool
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            for ended in self._spool.glob("*/ended.json"):
                told = json.loads((ended.parent / "association.json").read_text())
                if told["calling_ae_title"] == HOSTILE:
                    shutil.rmtree(ended.parent)
                    self.removed += 1
