"""`lungnode up` and Orthanc, the process IDs of what may be killed, and the networks that may be cut."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from db.session import open_engine
from tests.faults.network import Network, network_to
from tests.nodes import children, lungnode, variables, wait_for
from tests.orthanc import Orthanc, free_port, running_orthanc

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
TARGETS: Final = (*PROGRAMS, *NETWORKS)

_SETTINGS: Final = """
[receiver]
host = "127.0.0.1"
port = {receiver}
[clerk]
poll_s = 0.2
quiet_s = 2.0
gap_quiet_s = 3.0
sweep_s = 1.0
[analysis]
lease_s = 6.0
heatmaps = 2
max_attempts = 10
[delivery]
lease_s = 6.0
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

    def strike(self, target: str, which: float) -> bool:
        """Cut a network, or kill -9 one of a program's processes; tell whether anything was there.

        Args:
            target: One of TARGETS.
            which: 0 to 1: of several processes, in their order.
        """
        if target in self.networks:
            return self.networks[target].cut() > 0
        found = self.processes(target)
        try:
            os.kill(found[int(which * len(found))], signal.SIGKILL)
        except (IndexError, ProcessLookupError):  # it is down already
            return False
        return True


def _children(pid: int) -> list[int]:
    try:
        return list(children(pid))
    except FileNotFoundError:  # it ended meanwhile
        return []


@contextmanager
def running_node(folder: Path) -> Iterator[Node]:
    """Run both while the block runs."""
    with running_orthanc(folder) as orthanc, ExitStack() as stack:
        data, port = folder / "node", free_port()
        ways = (port, orthanc.dicom_port)
        networks = {
            name: stack.enter_context(network_to(far)) for name, far in zip(NETWORKS, ways, strict=True)
        }
        config = folder / "lungnode.toml"
        config.write_text(_SETTINGS.format(receiver=port, orthanc=networks[NETWORKS[1]].port))
        data.mkdir()
        environment = variables({"LUNGNODE_CONFIG": str(config)})
        with lungnode(data, "up", environment=environment, log=folder / "node.log") as process:
            wait_for((data / "receiver.json").is_file, limit_s=60, what="the receiver")
            engine = open_engine(f"sqlite:///{data / 'lungnode.sqlite3'}")
            try:
                yield Node(data, networks, process, engine, orthanc)
            finally:
                engine.dispose()
