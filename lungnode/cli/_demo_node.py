"""The node that `lungnode demo` runs: `lungnode up` and a stand-in PACS in a temporary folder."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from lungnode.errors import UnavailableError
from lungnode.settings import DicomDestination
from lungnode.supervisor import start_child

_T = TypeVar("_T")
_LOOK_S: Final = 0.1
_START_S: Final = 60.0
_STOP_S: Final = 12.0

_SETTINGS: Final = """
data = {data}
[receiver]
host = "127.0.0.1"
port = 0
[clerk]
poll_s = 0.2
quiet_s = 1.5
gap_quiet_s = 3.0
sweep_s = 1.0
[[destinations]]
name = "stand-in PACS"
ae_title = "STANDIN"
host = "127.0.0.1"
port = {port}
"""


@dataclass(frozen=True)
class DemoNode:
    """A running node, and where its parts are."""

    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def data(self) -> Path:
        """The node's data folder."""
        return self.folder / "node"

    @property
    def received(self) -> Path:
        """What the stand-in PACS got."""
        return self.folder / "pacs"

    def receiver(self) -> DicomDestination:
        """Wait for the node's receiver and return how to call it."""
        address = self.data / "receiver.json"
        port = self.wait_for(lambda: _port(address), _START_S, "its receiver")
        return DicomDestination(name="demo", ae_title="LUNGNODE", host="127.0.0.1", port=port)

    def wait_for(self, look: Callable[[], _T | None], limit_s: float, what: str) -> _T:
        """Look until there is something.

        Raises:
            UnavailableError: The node ended, or the time is over.
        """
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if (found := look()) is not None:
                return found
            if self.process.poll() is not None:
                raise UnavailableError(f"The node ended while the demo waited for {what}; see {self.log}.")
            time.sleep(_LOOK_S)
        raise UnavailableError(f"The demo waited {limit_s:.0f} s for {what} in vain; see {self.log}.")

    @property
    def log(self) -> Path:
        """What the node's programs said."""
        return self.folder / "node.log"


@contextmanager
def demo_node(folder: Path, settings: str = "") -> Iterator[DemoNode]:
    """Run node and stand-in PACS while the block runs; `settings` are TOML tables beside the demo's own."""
    with ExitStack() as stack:
        log = stack.enter_context((folder / "node.log").open("wb"))
        pacs = folder / "pacs"
        pacs.mkdir()
        standin = start_child((sys.executable, "-m", "lungnode.standin", str(pacs)), _environment(), log)
        stack.callback(_stop, standin)
        port = _wait_for_port(pacs / "port.json", standin)
        config = folder / "lungnode.toml"
        config.write_text(_SETTINGS.format(data=json.dumps(str(folder / "node")), port=port) + settings)
        command = (sys.executable, "-m", "lungnode", "up", "--config", str(config))
        node = start_child(command, _environment(), log)
        stack.callback(_stop, node)
        yield DemoNode(folder, node)


def clean_up(folder: Path, kept: Collection[Path]) -> None:
    """Remove all of the folder but the files to keep."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path not in kept:
            path.unlink(missing_ok=True)
    if not kept:
        folder.rmdir()


def _environment() -> dict[str, str]:
    # The operator's own settings would point the demo at the real database.
    return {name: value for name, value in os.environ.items() if not name.startswith("LUNGNODE_")}


def _port(address: Path) -> int | None:
    try:
        return int(json.loads(address.read_text())["port"])
    except FileNotFoundError:
        return None


def _wait_for_port(address: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if (port := _port(address)) is not None:
            return port
        time.sleep(_LOOK_S)
    raise UnavailableError("The stand-in PACS of the demo did not start.")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
