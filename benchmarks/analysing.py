"""A whole node under measurement: studies go in by C-STORE, and its rows say when what was done."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, func, select

from db.models import Analysis, Delivery, DeliveryState, Study
from db.session import open_engine, transaction
from lungnode.cli._demo_node import DemoNode, demo_node
from lungnode.cli._sender import send
from lungnode.supervisor import start_child
from tests.nodes import children, stop, variables

LIMIT_S: Final = 3000.0
_READY: Final = "ready for analyses"


@dataclass(frozen=True)
class Way:
    """One study's way through the node; seconds since it was judged complete."""

    lung: int  # slices that were analysed
    report_s: float  # until its C-STORE-RSP
    heatmaps_s: float  # until the last one's
    phases: dict[str, float]


@dataclass(frozen=True)
class Bench:
    """A running node with a stand-in PACS."""

    node: DemoNode
    engine: Engine
    workers: int
    ready_s: float  # from the start of the node until its workers were warm

    def send(self, paths: Sequence[Path]) -> None:
        """Send instances as a scanner does."""
        send(self.node.receiver(), "BENCH", paths)

    def way_of(self, study_instance_uid: str) -> Way:
        """Wait until everything of a study has arrived at the PACS."""
        return self.node.wait_for(lambda: self._way(study_instance_uid), LIMIT_S, "the results")

    def _way(self, study_instance_uid: str) -> Way | None:
        chosen = select(Analysis).join(Study).where(Study.study_instance_uid == study_instance_uid)
        with transaction(self.engine) as session:
            row = session.scalar(chosen)
            if row is None or not row.deliveries:
                return None
            ends = [_end(each) for each in row.deliveries]
            if None in ends:
                return None
            spent = [(end - row.created_at).total_seconds() for end in ends if end]
            return Way(len(row.details["slices"]), spent[0], max(spent), row.phases)

    def done(self) -> int:
        """Count the studies whose report has arrived."""
        stored = select(func.count()).select_from(Delivery)
        with transaction(self.engine) as session:
            return int(
                session.scalar(
                    stored.where(Delivery.group.startswith("sr"), Delivery.state == DeliveryState.STORED)
                )
                or 0
            )

    def wait_for(self, count: int) -> None:
        """Wait until so many reports have arrived."""
        self.node.wait_for(lambda: self.done() >= count or None, LIMIT_S, f"{count} reports")

    def hours(self) -> float:
        """Return the hours from the start of the first analysis to the last report."""
        with transaction(self.engine) as session:
            begun = session.scalar(select(func.min(Analysis.started_at)))
            ended = session.scalar(select(func.max(Delivery.finished_at)).where(Delivery.group == "sr"))
        return (ended - begun).total_seconds() / 3600 if ended and begun else float("nan")

    def memory_mb(self, name: str) -> float:
        """Return what /proc says of the largest analysing process: VmRSS, or VmHWM for its peak."""
        parents = [pid for pid, line in children(self.node.process.pid).items() if "analysis" in line]
        found = [_memory(child, name) for pid in parents for child in children(pid)]
        return max(found)


def _end(delivery: Delivery) -> datetime | None:
    return delivery.finished_at if delivery.state == DeliveryState.STORED else None


def _memory(pid: int, name: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    line = re.search(rf"{name}:\s+(\d+) kB", text)
    return int(line[1]) / 1024 if line else 0.0


@contextmanager
def running(folder: Path, settings: str = "", workers: int = 1) -> Iterator[Bench]:
    """Run a node with warm analysis workers while the block runs."""
    folder.mkdir(parents=True)
    begin = time.monotonic()
    with demo_node(folder, settings) as node:
        node.receiver()
        command = (sys.executable, "-m", "lungnode", "worker", "--queue", "analysis")
        with (folder / "workers.log").open("wb") as log:
            further = [
                start_child((*command, "--config", str(folder / "lungnode.toml")), variables(), log)
                for _ in range(workers - 1)
            ]
            engine = open_engine(f"sqlite:///{node.data / 'lungnode.sqlite3'}")
            try:
                logs = (node.log, folder / "workers.log")
                node.wait_for(lambda: _ready(logs) >= workers or None, LIMIT_S, "the workers")
                yield Bench(node, engine, workers, time.monotonic() - begin)
            finally:
                engine.dispose()
                for process in further:
                    stop(process)


def _ready(logs: Sequence[Path]) -> int:
    return sum(path.read_text().count(_READY) for path in logs)
