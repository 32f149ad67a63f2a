"""What one study costs a node: `python -m benchmarks.cost`.

CPU seconds of each program, bytes on disk and network, rows in each table: differences over a few studies of
phantom slices, JPEG Lossless, 512 x 512. CPU seconds hardly depend on what else the machine does.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, func, select, text

from benchmarks.analysing import Bench, running
from benchmarks.machine import describe_machine
from benchmarks.receivers import tree_cpu_s
from benchmarks.studies import draw
from db.models import Base
from db.session import reading
from tests.nodes import children

# Words of each program's command line.
PROGRAMS: Final = {
    "receiver": " receive",
    "clerk": " clerk",
    "analysis worker": "--queue analysis",
    "delivery worker": "--queue delivery",
    "broker": "valkey",
    "web": " web",
}
IDLE_S: Final = 10.0


@dataclass(frozen=True)
class Spent:
    """What a node has spent so far."""

    at: float  # monotonic seconds
    cpu_s: Mapping[str, float]
    rows: Mapping[str, int]
    bytes: Mapping[str, int]


def look(bench: Bench) -> Spent:
    """Look at everything."""
    lines = children(bench.node.process.pid)
    cpu = {
        name: sum(tree_cpu_s(pid) for pid, line in lines.items() if words in f"{line} ")
        for name, words in PROGRAMS.items()
    }
    data = bench.node.data
    sizes = {"archive": _size(data / "archive"), "outputs": _size(data / "outputs")}
    sizes["database"] = _database_bytes(bench.engine)
    return Spent(time.monotonic(), cpu, _rows(bench.engine), sizes)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _rows(engine: Engine) -> dict[str, int]:
    tables = Base.metadata.sorted_tables
    with reading(engine) as session:
        return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def _database_bytes(engine: Engine) -> int:
    with reading(engine) as session:
        pages, size = (session.scalar(text(f"PRAGMA {each}")) for each in ("page_count", "page_size"))
    return int(pages or 0) * int(size or 0)


def report(idle: tuple[Spent, Spent], busy: tuple[Spent, Spent], studies: int, slices: int) -> None:
    """Print what each study cost, without what the node spends in any case."""
    (rest, start), (_, end) = idle, busy
    print(f"\na study of {slices} slices, {studies} studies, {end.at - start.at:.0f} s")
    for name in PROGRAMS:
        idle_rate = (start.cpu_s[name] - rest.cpu_s[name]) / (start.at - rest.at)
        spent = end.cpu_s[name] - start.cpu_s[name] - idle_rate * (end.at - start.at)
        print(f"{name:16} {spent / studies:8.2f} CPU s a study, {idle_rate * 100:6.2f} % of a core when idle")
    for name, size in end.bytes.items():
        print(f"{name:16} {(size - start.bytes[name]) / studies / 1e6:8.2f} MB a study")
    rows = {name: (count - start.rows[name]) / studies for name, count in end.rows.items()}
    print(f"rows a study: {', '.join(f'{count:g} {name}' for name, count in rows.items() if count)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--studies", type=int, default=3)
    arguments = parser.parse_args()
    describe_machine("lungnode", "openvino")
    with tempfile.TemporaryDirectory(prefix="lungnode-cost-") as name:
        folder = Path(name)
        made = draw(folder / "drawn", arguments.slices)
        sent = [made.write(folder / str(number)) for number in range(arguments.studies + 1)]
        print(f"sent {sum(path.stat().st_size for path in sent[0]) / 1e6:.1f} MB a study")
        with running(folder / "node") as bench:
            bench.send(sent[0])  # the first one makes what the others find
            bench.wait_for(1)
            time.sleep(IDLE_S)
            rest = look(bench)
            time.sleep(IDLE_S)
            start = look(bench)
            for paths in sent[1:]:
                bench.send(paths)
            bench.wait_for(len(sent))
            time.sleep(IDLE_S)  # the last heatmaps, the audit trail
            report((rest, start), (start, look(bench)), arguments.studies, arguments.slices)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
