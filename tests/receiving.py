"""A receiver in a process of its own, as an operator runs it, and ways to look at its spool."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.dicom_wire import CT_IMAGE_STORAGE, DEADLINE_S, EXPLICIT_VR_LITTLE_ENDIAN, Instance, Peer

# The command's own start, without the other commands' modules.
PROGRAM: Final = """
from daemon.receiver.server import serve
from lungnode.log import start_log
from lungnode.settings import load_settings
settings = load_settings()
start_log(settings.log_level)
serve(settings)
"""


@dataclass(frozen=True)
class RunningReceiver:
    """A receiver that listens."""

    process: subprocess.Popen[bytes]
    data: Path
    log: Path
    port: int  # 0: it opens none without TLS
    tls_port: int = 0

    @property
    def spool(self) -> Path:
        """Where it keeps what it acknowledged."""
        return self.data / "spool"

    def connect(self) -> Peer:
        """Open a connection."""
        return Peer(self.port)

    def connect_tls(self, context: ssl.SSLContext) -> Peer:
        """Open a connection with TLS; raises what the handshake raises."""
        peer = Peer(self.tls_port)
        try:
            peer.encrypt(context)
        except OSError:
            peer.socket.close()
            raise
        return peer

    def log_text(self) -> str:
        """What an operator has read so far."""
        return self.log.read_text()

    def children(self) -> list[int]:
        """Its serving processes."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def files(self) -> list[Path]:
        """Every file that stands under a final name."""
        return sorted(self.spool.glob("*/*.dcm"))

    def half_files(self) -> list[Path]:
        """Every data set that is on its way to disk; an association's notes, half written, are none."""
        return sorted(self.spool.glob("*/*[0-9].part"))

    def wait_for_log(self, text: str) -> None:
        """Wait until a line says `text`."""
        wait_until(lambda: text in self.log_text(), f"no line says {text!r}")


@contextmanager
def running_receiver(
    folder: Path,
    environment: dict[str, str] | None = None,
    command: Sequence[str] = (sys.executable, "-c", PROGRAM),
    /,
    **receiver: Any,
) -> Iterator[RunningReceiver]:
    """Run a receiver on a free port with these receiver settings, and stop it at the end.

    `environment` are variables of other settings, `command` is what runs it.
    """
    data, log = folder / "data", folder / "log"
    settings = {"host": "127.0.0.1", "port": 0, "disk_reject_bytes": 0, "disk_warn_bytes": 0, **receiver}
    variables = {f"LUNGNODE_RECEIVER__{name.upper()}": _text(value) for name, value in settings.items()}
    environment = os.environ | variables | {"LUNGNODE_DATA": str(data)} | (environment or {})
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stderr=output)
    try:
        running = RunningReceiver(process, data, log, *_ports_of(process, log, data))
        wait_until(lambda: len(running.children()) == settings.get("processes", 2), "a process is missing")
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else str(value)


def _ports_of(process: subprocess.Popen[bytes], log: Path, data: Path) -> tuple[int, int]:
    wait_until(
        lambda: (data / "receiver.json").exists() or "receiver.json" in log.read_text() or process.poll(),
        "the receiver does not start",
    )
    found = re.findall(r"receiver listens on 127\.0\.0\.1 port (\d+)( with TLS)?$", log.read_text(), re.M)
    ports = {kind: int(port) for port, kind in found}
    assert ports, log.read_text()
    return ports.get("", 0), ports.get(" with TLS", 0)


def wait_until(condition: Callable[[], object], otherwise: str) -> None:
    """Return once `condition` holds; fail with `otherwise` after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise)
        time.sleep(0.01)


def an_instance(number: int = 1, size: int = 50_000) -> Instance:
    """A CT instance whose data set nobody parses: an element of private bytes."""
    value = (number.to_bytes(4, "little") * (size // 4 + 1))[:size]
    element = b"\xe1\x7f\x10\x10OB\0\0" + len(value).to_bytes(4, "little") + value
    return Instance(CT_IMAGE_STORAGE, f"1.2.840.99999.7.{number}", EXPLICIT_VR_LITTLE_ENDIAN, element)


def digest_of_data_set(path: Path) -> str:
    """The SHA-256 of what follows the File Meta group, whose length the group itself states."""
    content = path.read_bytes()
    return sha256(content[144 + int.from_bytes(content[140:144], "little") :]).hexdigest()


def digest(data: bytes) -> str:
    """The SHA-256 of a data set."""
    return sha256(data).hexdigest()
