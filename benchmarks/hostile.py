"""Attack a live receiver, and what reads its files, in large numbers: `python -m benchmarks.hostile PART`.

Each case is drawn from the seed and its number: `pdus --seed 1 --first 4711 --count 1` repeats one. Parts may
be run in pieces: each appends a line of JSON to `--results`, and `summary` adds the pieces up.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import hostile_coverage as coverage
from benchmarks import hostile_reading as reading
from benchmarks import hostile_receiver as receiver

PARTS: Final[dict[str, tuple[Callable[..., dict[str, Any]], int]]] = {  # and how many by default
    "pdus": (receiver.fuzzed_pdus, 100_000),
    "tls": (receiver.fuzzed_tls, 10_000),
    "datasets": (reading.damaged_data_sets, 20_000),
    "clerk": (reading.clerk_rounds, 2_000),
    "connects": (receiver.bare_connects, 10_000),
    "associations": (receiver.many_associations, 20_000),
    "coverage": (coverage.covered_lines, 20_000),
}
_KEYS: Final = ("sent", "over_association", "read", "acknowledged", "honest")


def main(arguments: Sequence[str]) -> int:
    """Run a part; 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("part", choices=(*PARTS, "summary"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, help="how many cases")
    parser.add_argument("--results", type=Path, help="file that gets a line of JSON")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where to store")  # noqa: S108
    wanted = parser.parse_args(arguments)
    if wanted.part == "summary":
        return summarise(wanted.results)
    run, count = PARTS[wanted.part]
    folder = Path(tempfile.mkdtemp(prefix="lungnode-hostile-", dir=wanted.folder))
    started = time.monotonic()
    try:
        found = run(folder, wanted.seed, wanted.first, wanted.count or count)
    finally:
        shutil.rmtree(folder)
    record = {"part": wanted.part, "seed": wanted.seed, "first": wanted.first}
    record |= {"seconds": round(time.monotonic() - started, 1)} | found
    print(json.dumps(record, indent=1))
    if wanted.results:
        with wanted.results.open("a") as file:
            file.write(json.dumps(record) + "\n")
    return int(bool(found["problems"]))


def summarise(results: Path) -> int:
    """Print the sums of all pieces, a line a part; 1 when any piece had a problem."""
    records = [json.loads(line) for line in results.read_text().splitlines()]
    for part in dict.fromkeys(record["part"] for record in records):
        pieces = [record for record in records if record["part"] == part]
        sums = {key: sum(piece.get(key, 0) for piece in pieces) for key in _KEYS}
        told = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in sums.items() if value)
        others = {key: [piece[key] for piece in pieces if key in piece] for key in ("longest_s", "covered")}
        worst = ", ".join(f"{key} {max(values)}" for key, values in others.items() if values)
        problems = [problem for piece in pieces for problem in piece["problems"]]
        seconds = sum(piece["seconds"] for piece in pieces)
        print(
            f"{part}: {told}; {worst}; {len(pieces)} pieces, {seconds:.0f} s; problems: {problems or 'none'}"
        )
    return int(any(record["problems"] for record in records))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
