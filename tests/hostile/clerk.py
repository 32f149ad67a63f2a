"""A clerk that is given damaged files between the slices of an honest study."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from lungnode.settings import Settings
from tests.databases import new_sqlite
from tests.hostile.datasets import damaged
from tests.spooling import ClerkNode, slices

HONEST: Final = "1.2.840.99999.7777"
_PER_ASSOCIATION: Final = 250


@dataclass
class Indexed:
    """What became of the damaged files."""

    read: int
    archived: int
    quarantined: int
    problems: list[str]


def index_damaged(folder: Path, seeds: list[bytes], seed: int, numbers: Sequence[int]) -> dict[str, Any]:
    """Index damaged files in batches; say where each ended, and whether the honest study is whole."""
    engine = new_sqlite(f"sqlite:///{folder / 'clerk.sqlite3'}")
    node = ClerkNode(engine, Settings(data=folder / "node"))
    digests = set()
    for start in range(0, len(numbers), _PER_ASSOCIATION):
        batch = numbers[start : start + _PER_ASSOCIATION]
        digests |= _send(node, seeds, seed, batch, start)
        node.receive(*slices(range(start + 1, start + 4), HONEST), name=f"honest-{start}")
    problems, archived, quarantined = _places(node, digests)
    expected = 3 * len(range(0, len(numbers), _PER_ASSOCIATION))
    if len(node.studies()[HONEST].instances) != expected:
        problems.append(f"the honest study lacks some of its {expected} slices")
    engine.dispose()
    return vars(Indexed(len(numbers), archived, quarantined, problems))


def _send(node: ClerkNode, seeds: list[bytes], seed: int, numbers: Sequence[int], start: int) -> set[str]:
    """Leave damaged files in the spool as the receiver does; return their digests."""
    digests = set()
    sender = node.sender(f"hostile-{start}")
    for number in numbers:
        content = damaged(seeds, seed, number)
        digests.add(sha256(content).hexdigest())
        sender.put(lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    sender.release()
    return digests


def _places(node: ClerkNode, digests: set[str]) -> tuple[list[str], int, int]:
    """Find each file again: in the archive, noted as a repetition, or in quarantine with its reason."""
    archived = set(node.archived().values()) & digests
    quarantine = [path for path in node.settings.quarantine.iterdir() if path.suffix != ".json"]
    kept = {sha256(path.read_bytes()).hexdigest() for path in quarantine}
    reasons = [path for path in quarantine if json.loads(path.with_suffix(".json").read_text())["reason"]]
    problems = []
    if left := [path.name for path in node.settings.spool.glob("*/*.dcm")]:
        problems.append(f"{len(left)} files are left in the spool")
    if len(reasons) != len(quarantine):
        problems.append("a file is in quarantine without a reason")
    if repeated := digests - archived - kept:
        notes = sum(bool(instance.note) for study in node.studies().values() for instance in study.instances)
        problems += [f"{len(repeated)} files are nowhere, and {notes} are noted as repetitions"] * (not notes)
    return problems, len(archived), len(kept)
