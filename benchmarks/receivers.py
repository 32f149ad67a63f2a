"""The receivers of the benchmark: how each is started, where it stores, what CPU it used."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

AE_TITLE: Final = "LUNGNODE"
LUNGNODE: Final = "lungnode receive"
DCMTK: Final = "storescp --fork +B"
DCMTK_NODELAY: Final = "storescp, NODELAY"
ORTHANC: Final = "Orthanc"
ORTHANC_NODELAY: Final = "Orthanc, NODELAY"
PYNETDICOM: Final = "pynetdicom storescp"
NAMES: Final = (LUNGNODE, DCMTK, DCMTK_NODELAY, ORTHANC, ORTHANC_NODELAY, PYNETDICOM)
AS_SHIPPED_ONLY: Final = frozenset({DCMTK, ORTHANC})  # with other senders they would flatter us
_START_S: Final = 20.0
_STOP_S: Final = 10.0
# DCMTK and Orthanc, which is built on it, answer in two writes; as shipped an answer may wait 40 ms for the
# sender's delayed acknowledgement. This is their best.
_NODELAY: Final = {"TCP_NODELAY": "1"}


@dataclass(frozen=True)
class Receiver:
    """A running receiver."""

    name: str
    port: int
    pid: int
    folder: Path  # where it puts what it received
    start_s: float  # from the start of its process to its first accepted connection

    def cpu_s(self) -> float:
        """CPU seconds that its processes used so far, those that ended included."""
        return tree_cpu_s(self.pid)

    def peak_memory_mb(self) -> float:
        """The largest peak among its processes."""
        return max((_peak_kb(pid) for pid in _tree(self.pid)), default=0) / 1024

    def empty(self) -> None:
        """Give back the space of what it received.

        Files are cut, not removed: ext4 passes over inodes freed in the last minutes one by one, and then
        every receiver needs half a millisecond more for each new file.
        """
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.name.startswith("index"):  # Orthanc's own database stays
                os.truncate(path, 0)


@contextmanager
def all_receivers(folder: Path) -> Iterator[list[Receiver]]:
    """Run all of them, each with a folder of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(_running(name, folder / f"{i}")) for i, name in enumerate(NAMES)]


def versions() -> dict[str, str]:
    """Return each receiver's version, as it says itself."""
    commands = {
        LUNGNODE: [sys.executable, "-c", "import lungnode; print(lungnode.__version__)"],
        DCMTK: ["storescp", "--version"],
        ORTHANC: [_orthanc(), "--version"],
        PYNETDICOM: [sys.executable, "-c", "import pynetdicom; print(pynetdicom.__version__)"],
    }
    return {name: _first_line(command) for name, command in commands.items()}


def _first_line(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return (result.stdout or result.stderr).splitlines()[0]


@contextmanager
def _running(name: str, folder: Path) -> Iterator[Receiver]:
    storage = folder / "storage"
    storage.mkdir(parents=True)
    port = _free_port()
    command, environment = _command(name, port, folder, storage)
    with (folder / "log").open("wb") as log:
        started = time.monotonic()
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
    try:
        _wait_until_listening(name, port)
        yield Receiver(name, port, process.pid, storage, time.monotonic() - started)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _command(name: str, port: int, folder: Path, storage: Path) -> tuple[list[str], dict[str, str]]:
    if name == LUNGNODE:
        lungnode = str(Path(sys.executable).with_name("lungnode"))
        environment = {"LUNGNODE_RECEIVER__PORT": str(port), "LUNGNODE_RECEIVER__HOST": "127.0.0.1"}
        return [lungnode, "receive", "--data", str(storage)], environment
    environment = _NODELAY if name in {DCMTK_NODELAY, ORTHANC_NODELAY} else {}
    if name in {DCMTK, DCMTK_NODELAY}:
        command = ["storescp", "--fork", "+B", "-aet", AE_TITLE, "-od", str(storage), str(port)]
        return command, environment
    if name == PYNETDICOM:
        command = [sys.executable, "-m", "pynetdicom", "storescp", "-q", "-aet", AE_TITLE]
        return [*command, "-od", str(storage), str(port)], {}
    return [_orthanc(), str(_orthanc_settings(port, folder, storage))], environment


def _orthanc_settings(port: int, folder: Path, storage: Path) -> Path:
    path = folder / "orthanc.json"
    settings = {
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "HttpServerEnabled": False,
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "DicomThreadsCount": 8,  # the default of 4 would make half of eight associations wait
        "DicomAlwaysAllowStore": True,
        "SyncStorageArea": True,  # its default, stated because the comparison rests on it
        "Plugins": [],
    }
    path.write_text(json.dumps(settings))
    return path


def _orthanc() -> str:
    return shutil.which("Orthanc") or shutil.which("orthanc", path="/usr/sbin:/usr/bin") or "Orthanc"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _wait_until_listening(name: str, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} does not listen on port {port}") from None
            time.sleep(0.05)
        else:
            return


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        children = Path(f"/proc/{parent}/task").glob("*/children")
        found += [int(child) for listing in children for child in _read(listing).split()]
    return found


def tree_cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process and those below it used so far, those that ended included."""
    return sum(_ticks(each) for each in _tree(pid)) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    # Fields 14 to 17 of proc_pid_stat(5), counted behind the command's name, which may hold spaces.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def _peak_kb(pid: int) -> int:
    for line in _read(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # the process ended meanwhile
