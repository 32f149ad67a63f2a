"""The programs that run on a data folder, by their signs of life."""

from collections.abc import Iterator
from pathlib import Path

from lungnode.cli._check import Check, Status
from lungnode.pulse import FOLDER, what_is_wrong


def running_programs(data: Path) -> list[str]:
    """Name the programs that are alive, with their hosts."""
    return [path.stem for path in _files(data) if not what_is_wrong(path, ready=False)]


def check_programs(data: Path) -> Iterator[Check]:
    """Name what fell silent or waits; what never ran here, or ended on purpose, is not missed."""
    for path in _files(data):
        wrong = what_is_wrong(path, ready=True)
        if wrong:
            mend = "Look into its log, and start it again unless its supervisor does."
            yield Check(path.stem, Status.WARNING, f"It {wrong.rstrip('.')}.", mend)


def _files(data: Path) -> list[Path]:
    return sorted((data / FOLDER).glob("*.json"))
