"""One round: scanners send, programs are killed, networks cut; what must be true is looked at in the end."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lungnode.phantom import PhantomStudy, phantom_study
from tests.faults.invariants import doubled, lost, settled
from tests.faults.node import TARGETS, Node
from tests.faults.scanner import Sent, send_study

SCANNERS: Final = 3  # a study each
SLICES: Final = 12
SIZE: Final = 256  # rows and columns
PAUSES_S: Final = (0.0, 0.1, 0.2)  # of each scanner, between two instances
BLOWS: Final = (1, 3)  # in a round, least and most
WITHIN_S: Final = 6.0  # of a round's start: while scanners send, and behind that
SEND_LIMIT_S: Final = 120.0
CALM_LIMIT_S: Final = 120.0


@dataclass(frozen=True)
class Blow:
    """What is to be killed or cut, and when."""

    target: str
    at_s: float  # since the round began
    which: float = 0.0  # 0 to 1: of several processes, in their order


@dataclass(frozen=True)
class Round:
    """How a round went."""

    hit: tuple[Blow, ...]  # those whose target was there
    acknowledged: int
    associations: int
    calm_s: float  # from the last acknowledgement or kill until all results were delivered
    violations: tuple[str, ...] = field(default=())


def draw_blows(chance: random.Random) -> list[Blow]:
    """Draw what happens in a round."""
    moments = sorted(chance.uniform(0, WITHIN_S) for _ in range(chance.randint(*BLOWS)))
    return [Blow(chance.choice(sorted(TARGETS)), round(at, 3), chance.random()) for at in moments]


def run_round(node: Node, folder: Path, number: int, blows: Sequence[Blow]) -> Round:
    """Run a round; `number` makes its studies, and is used once for each node."""
    studies = [_study(folder / str(scanner), number * SCANNERS + scanner) for scanner in range(SCANNERS)]
    with ThreadPoolExecutor(SCANNERS) as pool:
        sending = [
            pool.submit(send_study, study.paths, node.port, pause_s=pause_s, limit_s=SEND_LIMIT_S)
            for study, pause_s in zip(studies, PAUSES_S, strict=True)
        ]
        hit = tuple(_strike(node, blows))
        sent = {study.study_instance_uid: each.result() for study, each in zip(studies, sending, strict=True)}
    violations = [f"{each.unsent} instances of {uid} unsent" for uid, each in sent.items() if each.unsent]
    calm_s, restless = _wait_for_calm(node, sent)
    violations += [f"study {uid} did not come to rest in {CALM_LIMIT_S:.0f} s" for uid in restless]
    for uid, each in sent.items():
        violations += lost(node.engine, node.data / "archive", each.acknowledged)
        violations += doubled(node.engine, node.orthanc, uid)
    return Round(
        hit=hit,
        acknowledged=sum(len(each.acknowledged) for each in sent.values()),
        associations=sum(each.associations for each in sent.values()),
        calm_s=round(calm_s, 1),
        violations=tuple(violations),
    )


def _study(folder: Path, seed: int) -> PhantomStudy:
    return phantom_study(folder, SLICES, lesions=True, seed=seed, size=SIZE)


def _strike(node: Node, blows: Sequence[Blow]) -> Iterator[Blow]:
    begin = time.monotonic()
    for blow in blows:
        time.sleep(max(0.0, begin + blow.at_s - time.monotonic()))
        if node.strike(blow.target, blow.which):
            yield blow


def _wait_for_calm(node: Node, sent: Mapping[str, Sent]) -> tuple[float, Sequence[str]]:
    """Return the seconds until everything was delivered, and the studies for which that took too long."""
    begin = time.monotonic()
    waiting = {uid: len(each.acknowledged) for uid, each in sent.items()}
    while waiting and time.monotonic() < begin + CALM_LIMIT_S:
        time.sleep(0.1)
        waiting = {uid: count for uid, count in waiting.items() if not settled(node.engine, uid, count)}
    return time.monotonic() - begin, list(waiting)
