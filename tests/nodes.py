"""Real programs for tests: the embedded broker, `lungnode` commands, and waiting for a condition."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final, TypeVar

from lungnode.broker import broker_command, ping, prepare_socket
from lungnode.errors import UnavailableError
from lungnode.settings import Settings

T = TypeVar("T")
_ENDED: Final = (FileNotFoundError, ProcessLookupError)  # before its file was opened, or read


def wait_for(look: Callable[[], T | None], limit_s: float = 60.0, what: str = "it") -> T:
    """Look until there is something."""
    deadline = monotonic() + limit_s
    while monotonic() < deadline:
        found = look()
        if found:
            return found
        sleep(0.05)
    raise AssertionError(f"waited {limit_s} s for {what} in vain")


def listens(port: int) -> bool:
    """Tell whether somebody takes connections at a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(settings: Settings) -> bool:
    """Tell whether the broker does."""
    try:
        ping(settings.broker)
    except UnavailableError:
        return False
    return True


@contextmanager
def embedded_broker(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the embedded broker while the block runs."""
    prepare_socket(settings.broker_socket)
    with subprocess.Popen(broker_command(settings.broker_socket)) as process:
        try:
            wait_for(lambda: answers(settings), what="the broker")
            yield process
        finally:
            process.kill()


@contextmanager
def lungnode(
    data: Path, *arguments: str, environment: dict[str, str] | None = None, log: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a `lungnode` command while the block runs; it is stopped, then killed, at the end."""
    with (log or data / "test.log").open("ab") as output:
        process = subprocess.Popen(
            command(data, *arguments), env=variables(environment), stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            stop(process)


def command(data: Path, *arguments: str) -> Sequence[str]:
    """Return the command line of a `lungnode` command on a data folder."""
    return (sys.executable, "-m", "lungnode", *arguments, "--data", str(data))


def variables(environment: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment without the settings of whoever runs the tests; the web only if asked for."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LUNGNODE_")}
    return clean | {"LUNGNODE_WEB__ENABLED": "false", "LUNGNODE_WEB__PORT": "0"} | (environment or {})


def stop(process: "subprocess.Popen[bytes]", limit_s: float = 60.0) -> int:
    """Ask a process to end and return its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def lives(pid: int) -> bool:
    """Tell whether a process is more than a name. Source: proc(5), state Z."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except _ENDED:
        return False


def wait_for_end(pids: Iterable[int]) -> None:
    """Wait until nothing is left of processes, not even their names."""
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), what="the end of all")


def children(pid: int) -> dict[int, str]:
    """Return the command lines of the children of a process, by their process IDs. Source: proc(5)."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(*_ENDED):  # a thread
            for child in (task / "children").read_text().split():
                with suppress(*_ENDED):
                    line = Path(f"/proc/{child}/cmdline").read_bytes()
                    found[int(child)] = line.replace(b"\0", b" ").decode()
    return found
