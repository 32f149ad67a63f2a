"""One round: scanners send, things go wrong; what must be true is looked at in the end."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

from sqlalchemy import Engine

from lungnode.phantom import PhantomStudy, phantom_study
from tests.faults.invariants import doubled, left_over, lost, progress, settled, untold
from tests.faults.node import LEASE_S, NAMED, SWEEP_S, Node
from tests.faults.scanner import Sent, send_study

T = TypeVar("T")
SCANNERS: Final = 3  # a study each
SLICES: Final = 12
SIZE: Final = 256  # rows and columns
PAUSES_S: Final = (0.0, 0.1, 0.2)  # of each scanner, between two instances
BLOWS: Final = (1, 3)  # in a round, least and most
WITHIN_S: Final = 6.0  # of a round's start: while scanners send, and behind that
ARMED_WITHIN_S: Final = 3.0  # a named point: later a round may not come there any more
SEND_LIMIT_S: Final = 180.0
CALM_LIMIT_S: Final = 180.0
# No study may stand still for longer than that, beside what a step itself takes on a busy machine.
STUCK_S: Final = LEASE_S + SWEEP_S
STEP_S: Final = 10.0


@dataclass(frozen=True)
class Blow:
    """What is to happen, and when."""

    target: str
    at_s: float  # since the round began
    which: float = 0.0  # 0 to 1: of several processes, in their order; of times, how long


@dataclass(frozen=True)
class Round:
    """How a round went."""

    hit: tuple[Blow, ...]  # those whose target was there
    acknowledged: int
    associations: int
    calm_s: float  # from the last acknowledgement or blow until all results were delivered
    still_s: float  # the longest time in it in which one study did not come a step further
    violations: tuple[str, ...] = field(default=())


def draw_blows(chance: random.Random, number: int, targets: Sequence[str]) -> list[Blow]:
    """Draw what happens in a round: each named point in its turn, and anything beside it."""
    named = [name for name in targets if name in NAMED]
    point = Blow(named[number % len(named)], round(chance.uniform(0, ARMED_WITHIN_S), 3))
    others = sorted(set(targets) - {point.target})
    moments = [chance.uniform(0, WITHIN_S) for _ in range(chance.randint(*BLOWS) - 1)]
    beside = [Blow(chance.choice(others), round(at, 3), chance.random()) for at in moments]
    return sorted([point, *beside], key=lambda blow: blow.at_s)


def run_round(node: Node, folder: Path, number: int, blows: Sequence[Blow]) -> Round:
    """Run a round; `number` makes its studies, and is used once for each node."""
    studies = [_study(folder / str(scanner), number * SCANNERS + scanner) for scanner in range(SCANNERS)]
    with ThreadPoolExecutor(SCANNERS) as pool:
        sending = [
            pool.submit(send_study, study.paths, node.port, pause_s=pause_s, limit_s=SEND_LIMIT_S)
            for study, pause_s in zip(studies, PAUSES_S, strict=True)
        ]
        struck = tuple(_strike(node, blows))
        sent = {study.study_instance_uid: each.result() for study, each in zip(studies, sending, strict=True)}
    calm_s, still_s, restless = wait_for_calm(node, sent)
    hit = tuple(blow for blow in struck if blow.target not in NAMED or node.was_hit(blow.target))
    return Round(
        hit=hit,
        acknowledged=sum(len(each.acknowledged) for each in sent.values()),
        associations=sum(each.associations for each in sent.values()),
        calm_s=round(calm_s, 1),
        still_s=round(still_s, 1),
        violations=tuple(_violations(node, sent, restless, still_s)),
    )


def _violations(
    node: Node, sent: Mapping[str, Sent], restless: Sequence[str], still_s: float
) -> Iterator[str]:
    yield from (f"{each.unsent} instances of {uid} unsent" for uid, each in sent.items() if each.unsent)
    yield from (f"study {uid} did not come to rest in {CALM_LIMIT_S:.0f} s" for uid in restless)
    if still_s > STUCK_S + STEP_S:
        yield f"a study stood still for {still_s:.1f} s"
    for uid, each in sent.items():
        yield from lost(node.engine, node.data / "archive", each.acknowledged)
        yield from doubled(node.engine, node.orthanc, uid)
    yield from left_over(node.data / "spool", node.data / "outputs/staging")
    yield from untold(node.engine, sent)


def _study(folder: Path, seed: int) -> PhantomStudy:
    return phantom_study(folder, SLICES, lesions=True, seed=seed, size=SIZE)


def _strike(node: Node, blows: Sequence[Blow]) -> Iterator[Blow]:
    begin = time.monotonic()
    for blow in blows:
        time.sleep(max(0.0, begin + blow.at_s - time.monotonic()))
        if node.strike(blow.target, blow.which):
            yield blow


class Asked(Protocol):
    """Whose database may be away."""

    def ask(self, question: Callable[[Engine], T]) -> T | None:
        """Return what it answers; None while it does not."""


def wait_for_calm(node: Asked, sent: Mapping[str, Sent]) -> tuple[float, float, Sequence[str]]:
    """Wait until everything was delivered.

    Returns the seconds it took, the longest that one study stood still, and those that never came to rest.
    """
    begin = time.monotonic()
    waiting = {uid: len(each.acknowledged) for uid, each in sent.items()}
    seen: dict[str, tuple[object, float]] = {}  # how far a study is, and since when
    still_s = 0.0
    while waiting and time.monotonic() < begin + CALM_LIMIT_S:
        time.sleep(0.1)
        for uid, count in list(waiting.items()):
            if node.ask(lambda engine, uid=uid, count=count: settled(engine, uid, count)):  # type: ignore[misc]
                del waiting[uid]
                continue
            far = node.ask(lambda engine, uid=uid: progress(engine, uid))  # type: ignore[misc]
            before, since = seen.get(uid, (None, begin))
            if far != before:
                seen[uid] = (far, time.monotonic())
            still_s = max(still_s, time.monotonic() - since)
    return time.monotonic() - begin, still_s, list(waiting)
