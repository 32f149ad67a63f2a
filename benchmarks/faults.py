"""Kill -9 a random program of a node at random moments while scanners send: `python -m benchmarks.faults`.

Each round sends studies from several scanners at once, kills, waits until all is calm, and checks that
nothing acknowledged was lost, that the PACS holds every result once, and how long it took. Rounds are drawn
from the seed and their number: `--seed 1 --first 17 --rounds 1` repeats the seventeenth. Results append to a
file.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.studies import Slices, draw
from tests.faults.invariants import doubled, lost, settled
from tests.faults.node import TARGETS, Node, running_node
from tests.faults.scanner import Sent, send_study

SCANNERS: Final = 3  # a study each
SLICES: Final = 12
LONGEST_PAUSE_S: Final = 0.2  # of a scanner, between two instances
KILLS: Final = (1, 3)  # in a round, least and most
KILL_WITHIN_S: Final = 6.0  # of the round's start: while scanners send, and behind that
SEND_LIMIT_S: Final = 120.0
CALM_LIMIT_S: Final = 120.0


@dataclass(frozen=True)
class Kill:
    """One kill, when the round was so old; a target that was down already was not hit."""

    target: str
    at_s: float
    hit: bool


@dataclass
class Round:
    """One round, as it is written to the file."""

    seed: int
    number: int
    kills: list[Kill] = field(default_factory=list)
    acknowledged: int = 0
    associations: int = 0
    calm_s: float = 0.0  # from the last acknowledgement until all results were delivered
    violations: list[str] = field(default_factory=list)


def main(arguments: Sequence[str]) -> int:
    """Run the rounds; 1 when something was lost or doubled, or never came to rest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1, help="number of the first round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="file that gets a line of JSON for each round")
    wanted = parser.parse_args(arguments)
    rounds = []
    with tempfile.TemporaryDirectory(prefix="lungnode-faults-") as name:
        folder = Path(name)
        drawn = draw(folder / "phantom", SLICES)
        with running_node(folder) as node:
            for number in range(wanted.first, wanted.first + wanted.rounds):
                made = run_round(node, drawn, folder / str(number), Round(wanted.seed, number))
                rounds.append(made)
                _tell(made, wanted.results)
                if made.violations and wanted.results:
                    shutil.copy(folder / "node.log", wanted.results.with_suffix(f".{number}.log"))
    _sum_up(rounds)
    return int(any(each.violations for each in rounds))


def run_round(node: Node, drawn: Slices, folder: Path, made: Round) -> Round:
    """Send, kill, wait until all is calm, and look."""
    chance = random.Random(f"{made.seed}-{made.number}")  # noqa: S311 - to be repeated
    studies = {}
    for number in range(SCANNERS):
        paths = drawn.write(folder / str(number))
        studies[str(drawn.instances[0].StudyInstanceUID)] = paths
    pauses = [chance.uniform(0, LONGEST_PAUSE_S) for _ in studies]
    with ThreadPoolExecutor(SCANNERS) as pool:
        sending = [
            pool.submit(send_study, paths, node.port, pause_s=pause_s, limit_s=SEND_LIMIT_S)
            for paths, pause_s in zip(studies.values(), pauses, strict=True)
        ]
        made.kills = list(_kill(node, chance))
        sent = dict(zip(studies, (each.result() for each in sending), strict=True))
    made.acknowledged = sum(len(each.acknowledged) for each in sent.values())
    made.associations = sum(each.associations for each in sent.values())
    made.violations += [
        f"{each.unsent} instances of {uid} unsent" for uid, each in sent.items() if each.unsent
    ]
    made.calm_s = _wait_for_calm(node, sent, made)
    for uid, each in sent.items():
        made.violations += lost(node.engine, node.data / "archive", each.acknowledged)
        made.violations += doubled(node.engine, node.orthanc, uid)
    return made


def _kill(node: Node, chance: random.Random) -> Iterator[Kill]:
    """Kill at moments that were drawn before, whatever is there then."""
    moments = sorted(chance.uniform(0, KILL_WITHIN_S) for _ in range(chance.randint(*KILLS)))
    begin = time.monotonic()
    for moment in moments:
        target, which = chance.choice(sorted(TARGETS)), chance.random()
        time.sleep(max(0.0, begin + moment - time.monotonic()))
        yield Kill(target, round(moment, 3), node.kill(target, which) is not None)


def _wait_for_calm(node: Node, sent: Mapping[str, Sent], made: Round) -> float:
    """Return the seconds until everything was delivered; what was not by the limit is a violation."""
    begin = time.monotonic()
    waiting = {uid: len(each.acknowledged) for uid, each in sent.items()}
    while waiting and time.monotonic() < begin + CALM_LIMIT_S:
        time.sleep(0.1)
        waiting = {uid: count for uid, count in waiting.items() if not settled(node.engine, uid, count)}
    made.violations += [f"study {uid} did not come to rest in {CALM_LIMIT_S:.0f} s" for uid in waiting]
    return round(time.monotonic() - begin, 1)


def _tell(made: Round, results: Path | None) -> None:
    kills = ", ".join(f"{each.target} at {each.at_s:.1f} s" for each in made.kills if each.hit) or "nobody"
    what = "; ".join(made.violations) or "all well"
    print(f"round {made.number}: killed {kills}; calm after {made.calm_s:.1f} s; {what}", flush=True)
    if results:
        with results.open("a") as file:
            file.write(json.dumps(asdict(made)) + "\n")


def _sum_up(rounds: Sequence[Round]) -> None:
    hit = Counter(kill.target for made in rounds for kill in made.kills if kill.hit)
    calm = sorted(made.calm_s for made in rounds)
    print(f"\n{len(rounds)} rounds, {sum(made.acknowledged for made in rounds)} instances acknowledged")
    print("killed: " + ", ".join(f"{target} {hit[target]}" for target in sorted(TARGETS)))
    print(f"calm after {calm[len(calm) // 2]:.1f} s (middle), {calm[-1]:.1f} s (longest)")
    print(f"violations: {sum(len(made.violations) for made in rounds)}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
