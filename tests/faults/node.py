"""`lungnode up` and Orthanc, and the process IDs of everything that may be killed."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from db.session import open_engine
from tests.nodes import children, lungnode, variables, wait_for
from tests.orthanc import Orthanc, free_port, running_orthanc

# What is killed: words of a program of the node, and whether it is one of that program's own children.
TARGETS: Final = {
    "receiver": (" receive ", False),
    "receiver's child": (" receive ", True),
    "clerk": (" clerk ", False),
    "analysis worker": ("--queue analysis", False),
    "analysis worker's child": ("--queue analysis", True),
    "courier": ("--queue delivery", False),
    "broker": ("valkey", False),
}

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
    port: int
    process: "subprocess.Popen[bytes]"
    engine: Engine
    orthanc: Orthanc

    def processes(self, target: str) -> list[int]:
        """Return the process IDs of a target; none while it is down."""
        words, within = TARGETS[target]
        found = [pid for pid, line in children(self.process.pid).items() if words in f"{line} "]
        return [child for pid in found for child in _children(pid)] if within else found

    def wait_for_all(self) -> None:
        """Wait until every program runs."""
        wait_for(lambda: all(self.processes(target) for target in TARGETS), limit_s=60, what="all programs")

    def kill(self, target: str, chance: float) -> int | None:
        """Kill -9 one process of a target, `chance` (0 to 1) says which; None where there is none."""
        found = self.processes(target)
        if not found:
            return None
        pid = found[int(chance * len(found))]
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return pid


def _children(pid: int) -> list[int]:
    try:
        return list(children(pid))
    except FileNotFoundError:  # it ended meanwhile
        return []


@contextmanager
def running_node(folder: Path) -> Iterator[Node]:
    """Run both while the block runs."""
    with running_orthanc(folder) as orthanc:
        data, port = folder / "node", free_port()
        config = folder / "lungnode.toml"
        config.write_text(_SETTINGS.format(receiver=port, orthanc=orthanc.dicom_port))
        data.mkdir()
        environment = variables({"LUNGNODE_CONFIG": str(config)})
        with lungnode(data, "up", environment=environment, log=folder / "node.log") as process:
            wait_for((data / "receiver.json").is_file, limit_s=60, what="the receiver")
            engine = open_engine(f"sqlite:///{data / 'lungnode.sqlite3'}")
            try:
                yield Node(data, port, process, engine, orthanc)
            finally:
                engine.dispose()
