"""`lungnode up` and Orthanc, and what may happen to them: processes killed, networks cut, a full disk."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Final, TypeVar

from sqlalchemy import Engine

from db.session import open_engine
from lungnode.errors import UnavailableError
from tests.faults.disk import SmallDisk, may_mount, small_disk
from tests.faults.network import Network, network_to
from tests.faults.tripwires.sitecustomize import POINTS, VARIABLE
from tests.nodes import children, lungnode, variables, wait_for
from tests.orthanc import Orthanc, free_port, running_orthanc
from tests.postgres import PostgreSQL, running_postgresql

T = TypeVar("T")
LEASE_S: Final = 8.0
SWEEP_S: Final = 1.0
# What is killed: words of a program of the node, and whether it is one of that program's own children.
PROGRAMS: Final = {
    "receiver": (" receive ", False),
    "receiver's child": (" receive ", True),
    "clerk": (" clerk ", False),
    "analysis worker": ("--queue analysis", False),
    "analysis worker's child": ("--queue analysis", True),
    "courier": ("--queue delivery", False),
    "broker": ("valkey", False),
}
NETWORKS: Final = ("scanners' network", "PACS's network")
SLOW: Final = tuple(f"slow {name}" for name in NETWORKS)
DATABASE: Final = "database"
DISK: Final = "disk"
NAMED: Final = {point.name: point for point in POINTS}
_DOWN_S: Final = 1.0  # until whoever looks after a database has seen that it is dead
_LEAST_S: Final = 1.0  # of a disk that is full, of a network that is slow
_MOST_S: Final = 5.0

_SETTINGS: Final = """
[receiver]
host = "127.0.0.1"
port = {receiver}
disk_reject_bytes = 1000000
[clerk]
poll_s = 0.2
quiet_s = 2.0
gap_quiet_s = 3.0
sweep_s = {sweep_s}
[analysis]
lease_s = {lease_s}
batch = 4
heatmaps = 2
max_attempts = 10
[delivery]
lease_s = {lease_s}
backoff_s = 1.0
backoff_max_s = 2.0
[[destinations]]
name = "ORTHANC"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {orthanc}
timeout_s = 5.0
"""


@dataclass(frozen=True)
class Node:
    """A running node and its PACS."""

    data: Path
    networks: dict[str, Network]  # of the scanners, and of the PACS
    process: "subprocess.Popen[bytes]"
    engine: Engine
    orthanc: Orthanc
    points: Path  # where points of the programs' code are armed
    server: PostgreSQL | None = None  # None: SQLite in the data folder
    disk: SmallDisk | None = None  # None: this process may mount none

    @property
    def targets(self) -> tuple[str, ...]:
        """What can happen to this one."""
        database = (DATABASE,) if self.server else ()
        disk = (DISK,) if self.disk else ()
        return (*PROGRAMS, *database, *NETWORKS, *SLOW, *disk, *NAMED)

    def processes(self, target: str) -> list[int]:
        """Return the process IDs of a target; none while it is down."""
        words, within = PROGRAMS[target]
        found = [pid for pid, line in children(self.process.pid).items() if words in f"{line} "]
        return [child for pid in found for child in _children(pid)] if within else found

    def wait_for_all(self) -> None:
        """Wait until every program runs."""
        wait_for(lambda: all(self.processes(name) for name in PROGRAMS), limit_s=60, what="all programs")

    @property
    def port(self) -> int:
        """Where scanners find the receiver."""
        return self.networks[NETWORKS[0]].port

    def ask(self, question: Callable[[Engine], T]) -> T | None:
        """Return what the database answers; None while it does not."""
        try:
            return question(self.engine)
        except UnavailableError:
            return None

    def strike(self, target: str, which: float) -> bool:
        """Let something happen; tell whether anything was there for it to happen to.

        A named point is only armed: `was_hit` tells.

        Args:
            target: One of `targets`.
            which: 0 to 1: of several processes, in their order; of times, how long.
        """
        seconds = _LEAST_S + which * (_MOST_S - _LEAST_S)
        if target in NAMED:
            (self.points / NAMED[target].file).touch()
        elif target == DISK and self.disk:
            self.disk.fill(seconds)
        elif target == DATABASE and self.server:
            _replace(self.server)
        elif target in SLOW:
            return self.networks[target.removeprefix("slow ")].slow(seconds) > 0
        elif target in self.networks:
            return self.networks[target].cut() > 0
        else:
            return self._kill(target, which)
        return True

    def was_hit(self, point: str) -> bool:
        """Disarm a named point; tell whether a program came there before."""
        armed = self.points / NAMED[point].file
        armed.unlink(missing_ok=True)
        hit = armed.with_name(f"{armed.name}.hit")
        found = hit.exists()
        hit.unlink(missing_ok=True)
        return found

    def _kill(self, target: str, which: float) -> bool:
        # What was killed a moment ago is started again.
        found = wait_for(lambda: self.processes(target), what=target)
        try:
            os.kill(found[int(which * len(found))], signal.SIGKILL)
        except ProcessLookupError:  # it went down by itself
            return False
        return True


def _replace(server: PostgreSQL) -> None:
    server.kill()
    sleep(_DOWN_S)
    server.start()


def _children(pid: int) -> list[int]:
    try:
        return list(children(pid))
    except FileNotFoundError:  # it ended meanwhile
        return []


@contextmanager
def running_node(folder: Path, *, postgresql: bool = False) -> Iterator[Node]:
    """Run all of it while the block runs."""
    with running_orthanc(folder) as orthanc, ExitStack() as stack:
        data, port, points = folder / "node", free_port(), folder / "points"
        points.mkdir()
        ways = (port, orthanc.dicom_port)
        networks = {
            name: stack.enter_context(network_to(far)) for name, far in zip(NETWORKS, ways, strict=True)
        }
        disk = stack.enter_context(small_disk(data)) if may_mount() else None
        data.mkdir(exist_ok=True)
        server = stack.enter_context(running_postgresql()) if postgresql else None
        url = server.url if server else f"sqlite:///{data / 'lungnode.sqlite3'}"
        config = folder / "lungnode.toml"
        ports = {"receiver": port, "orthanc": networks[NETWORKS[1]].port}
        config.write_text(_SETTINGS.format(lease_s=LEASE_S, sweep_s=SWEEP_S, **ports))
        own = {"LUNGNODE_CONFIG": str(config), "LUNGNODE_DATABASE_URL": url, **_tripwires(points)}
        with lungnode(data, "up", environment=variables(own), log=folder / "node.log") as process:
            wait_for((data / "receiver.json").is_file, limit_s=60, what="the receiver")
            engine = open_engine(url)
            stack.callback(engine.dispose)
            yield Node(data, networks, process, engine, orthanc, points, server, disk)


def _tripwires(points: Path) -> dict[str, str]:
    """Return the variables that let the node's programs be killed at named points."""
    own = str(Path(__file__).parent / "tripwires")
    return {"PYTHONPATH": os.pathsep.join((own, os.environ.get("PYTHONPATH", ""))), VARIABLE: str(points)}
