"""The other programs of the node, as their signs of life tell."""

from dataclasses import dataclass
from pathlib import Path

from lungnode.pulse import FOLDER, PROGRAMS, what_is_wrong


@dataclass(frozen=True)
class Program:
    """One program on one host."""

    name: str
    host: str
    wrong: str  # why it is not alive; empty when it is
    waits: str  # why it is not ready; empty when it is

    @property
    def alive(self) -> bool:
        """Whether it gave a sign of life lately."""
        return not self.wrong

    @property
    def ready(self) -> bool:
        """Whether it can work."""
        return not (self.wrong or self.waits)


def programs(data: Path) -> list[Program]:
    """Return the programs that gave signs of life and were not stopped on purpose, on every host."""
    found = []
    for path in sorted((data / FOLDER).glob("*.json")):
        # The longest name that fits: some begin with others.
        name = max((each for each in PROGRAMS if path.stem.startswith(f"{each}-")), key=len, default="")
        if name:
            found.append(_program(path, name))
    return found


def _program(path: Path, name: str) -> Program:
    host = path.stem.removeprefix(f"{name}-")
    return Program(name, host, what_is_wrong(path, ready=False), what_is_wrong(path, ready=True))
