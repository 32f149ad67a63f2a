"""Let things go wrong at random moments while scanners send: `python -m benchmarks.faults`.

Programs are killed -9, at any moment and at named points of their code; networks are cut and slowed, the disk
is filled, the database killed (`--database postgresql`). Each round sends studies from several scanners at
once, waits until all is calm, and checks that nothing acknowledged was lost, that the PACS holds every result
once, that no study stood still, and that the audit trail tells all of it once. What happens when is drawn
from the seed and the round's number: `--seed 1 --first 17 --rounds 1` repeats the seventeenth. Results append
to a file, over any number of runs; `--summary FILE` adds them up.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from tests.faults.node import DATABASE, DISK, NAMED, NETWORKS, PROGRAMS, SLOW, running_node
from tests.faults.rounds import STUCK_S, Round, draw_blows, run_round

WANTED = 10  # hits of each named point


def main(arguments: Sequence[str]) -> int:
    """Run rounds or add them up; 1 when something was lost or doubled, or never came to rest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--first", type=int, help="number of the first round; else the next of the results")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no round after that")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--results", type=Path, help="file that gets a line of JSON for each round")
    parser.add_argument("--summary", type=Path, help="add up such a file, and run nothing")
    wanted = parser.parse_args(arguments)
    if not wanted.summary:
        made = _run(wanted)
        return _sum_up(made)
    return _sum_up([json.loads(line) for line in wanted.summary.read_text().splitlines()])


def _run(wanted: argparse.Namespace) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    first = wanted.first or 1 + max((each["round"] for each in _earlier(wanted)), default=0)
    until = monotonic() + 60 * wanted.minutes
    is_postgresql = wanted.database == "postgresql"
    with (
        tempfile.TemporaryDirectory(prefix="lungnode-faults-") as name,
        running_node(Path(name), postgresql=is_postgresql) as node,
    ):
        for number in range(first, first + wanted.rounds):
            if monotonic() > until:
                break
            chance = random.Random(f"{wanted.seed}-{number}")  # noqa: S311 - to be repeated
            blows = draw_blows(chance, number, node.targets)
            outcome = run_round(node, Path(name) / str(number), number, blows)
            shutil.rmtree(Path(name) / str(number))
            record = {"seed": wanted.seed, "database": wanted.database, "round": number} | asdict(outcome)
            made.append(record)
            _tell(number, outcome)
            if wanted.results:
                _keep(wanted.results, record, Path(name) / "node.log")
    return made


def _earlier(wanted: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rounds of this seed and database that stand in the results."""
    if not wanted.results or not wanted.results.exists():
        return []
    rounds = [json.loads(line) for line in wanted.results.read_text().splitlines()]
    same = (wanted.seed, wanted.database)
    return [each for each in rounds if (each["seed"], each["database"]) == same]


def _keep(results: Path, record: dict[str, Any], log: Path) -> None:
    with results.open("a") as file:
        file.write(json.dumps(record) + "\n")
    if record["violations"]:
        shutil.copy(log, results.with_suffix(f".{record['database']}.{record['round']}.log"))


def _tell(number: int, made: Round) -> None:
    blows = ", ".join(f"{each.target} at {each.at_s:.1f} s" for each in made.hit) or "nothing"
    what = "; ".join(made.violations) or "all well"
    times = f"calm after {made.calm_s:.1f} s, still for {made.still_s:.1f} s"
    print(f"round {number}: {blows}; {times}; {what}", flush=True)


def _sum_up(rounds: Sequence[dict[str, Any]]) -> int:
    hit = Counter(blow["target"] for made in rounds for blow in made["hit"])
    calm, still = (sorted(made[name] for made in rounds) for name in ("calm_s", "still_s"))
    violations = [each for made in rounds for each in made["violations"]]
    counts = Counter(made["database"] for made in rounds)
    print(f"\n{len(rounds)} rounds ({', '.join(f'{count} on {name}' for name, count in counts.items())})")
    print(f"{sum(made['acknowledged'] for made in rounds)} instances acknowledged")
    for title, names in (
        ("killed", (*PROGRAMS, DATABASE)),
        ("cut, slowed, filled", (*NETWORKS, *SLOW, DISK)),
        ("killed at a named point", tuple(NAMED)),
    ):
        print(f"{title}: " + ", ".join(f"{name} {hit[name]}" for name in names))
    print(f"calm after {calm[len(calm) // 2]:.1f} s (middle), {calm[-1]:.1f} s (longest)")
    late = sum(each > STUCK_S for each in still)
    print(f"a study stood still for {still[len(still) // 2]:.1f} s (middle), {still[-1]:.1f} s (longest)")
    print(f"longer than lease and sweep ({STUCK_S:.0f} s): in {late} rounds")
    seldom = [name for name in NAMED if hit[name] < WANTED]
    print(f"named points with fewer than {WANTED} hits: {', '.join(seldom) or 'none'}")
    print(f"violations: {len(violations)}", *violations, sep="\n  ")
    return int(bool(violations))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
