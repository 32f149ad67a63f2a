"""Kill -9 random programs of a node at random moments while scanners send: `python -m benchmarks.faults`.

Each round sends studies from several scanners at once, kills, waits until all is calm, and checks that
nothing acknowledged was lost, that the PACS holds every result once, and how long it took. What is killed
when is drawn from the seed and the round's number: `--seed 1 --first 17 --rounds 1` repeats the seventeenth.
Results append to a file.
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

from tests.faults.node import TARGETS, running_node
from tests.faults.rounds import Round, draw_blows, run_round


def main(arguments: Sequence[str]) -> int:
    """Run the rounds; 1 when something was lost or doubled, or never came to rest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1, help="number of the first round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, help="file that gets a line of JSON for each round")
    wanted = parser.parse_args(arguments)
    rounds = []
    with tempfile.TemporaryDirectory(prefix="lungnode-faults-") as name, running_node(Path(name)) as node:
        for number in range(wanted.first, wanted.first + wanted.rounds):
            chance = random.Random(f"{wanted.seed}-{number}")  # noqa: S311 - to be repeated
            made = run_round(node, Path(name) / str(number), number, draw_blows(chance))
            rounds.append(made)
            _tell(number, made)
            if wanted.results:
                _keep(wanted.results, {"seed": wanted.seed, "round": number} | asdict(made))
                if made.violations:
                    shutil.copy(Path(name) / "node.log", wanted.results.with_suffix(f".{number}.log"))
    _sum_up(rounds)
    return int(any(each.violations for each in rounds))


def _tell(number: int, made: Round) -> None:
    kills = ", ".join(f"{each.target} at {each.at_s:.1f} s" for each in made.hit) or "nobody"
    what = "; ".join(made.violations) or "all well"
    print(f"round {number}: killed {kills}; calm after {made.calm_s:.1f} s; {what}", flush=True)


def _keep(path: Path, record: dict[str, object]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def _sum_up(rounds: Sequence[Round]) -> None:
    hit = Counter(blow.target for made in rounds for blow in made.hit)
    calm = sorted(made.calm_s for made in rounds)
    print(f"\n{len(rounds)} rounds, {sum(made.acknowledged for made in rounds)} instances acknowledged")
    print("killed: " + ", ".join(f"{target} {hit[target]}" for target in sorted(TARGETS)))
    print(f"calm after {calm[len(calm) // 2]:.1f} s (middle), {calm[-1]:.1f} s (longest)")
    print(f"violations: {sum(len(made.violations) for made in rounds)}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
