"""Which lines of daemon/receiver the hostile corpus reaches, and what else happens to a receiver meanwhile.

The corpus is sent to receivers under coverage.py in five situations: as shipped, with TLS; behind a proxy;
strict about who is welcome; on a full disk; on a disk that fills. Beside it come the operator's signals,
broken certificates, a killed process, connections beyond the limit, and a stop in the middle of a transfer.
"""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from daemon.receiver.commitment import MOST_BYTES
from lungnode.commitment import Commitment, Reference
from tests.dicom_wire import (
    CT_IMAGE_STORAGE,
    Peer,
    associate_request,
    command,
    commitment_command,
    pdu,
    pdv,
    store_message,
)
from tests.hostile import proxied
from tests.hostile.attack import attack
from tests.hostile.grammar import CONTEXTS, commitment_request
from tests.hostile.mutation import chance_of
from tests.hostile.tls import attack_tls, tls_receiver
from tests.receiving import PROGRAM, RunningReceiver, an_instance, wait_until

_FEW: Final = 300
LEAST: Final = 95  # of a hundred lines
_SETTINGS: Final = """[run]
source = daemon.receiver
parallel = true
concurrency = thread
patch =
    fork
    _exit
data_file = {folder}/data.coverage
"""
_RESTRICTED: Final = {
    "networks": ["127.0.0.0/8", "::/0"],
    "calling_ae_titles": ["HOSTILE", "TEST", "BOUND"],
    "max_associations": 2,
    "unknown_sop_classes": True,
    "idle_s": 1,
    "artim_s": 1,
}
_UNTAKEN: Final = (  # requests for commitment without a data set, and with one that is too long
    pdu(4, pdv(7, 3, commitment_command(0x0130, data_set_type=0x0101))),
    pdu(4, pdv(7, 3, commitment_command(0x0130)))
    + pdu(4, pdv(7, 0, bytes(100_000))) * (MOST_BYTES // 100_000)
    + pdu(4, pdv(7, 2, bytes(100_000))),
)
_PROXIED: Final = {"proxies": ["127.0.0.0/8"], "networks": ["198.51.100.0/24", "2001:db8::/32"], "artim_s": 1}


@dataclass(frozen=True)
class Scene:
    """One receiver and what happens to it."""

    name: str
    settings: dict[str, Any]
    play: Callable[[RunningReceiver, ssl.SSLContext], None]
    megabytes: int = 0  # of its disk, on which a few attempts must do; 0: no limit
    header: Callable[[int, int], bytes] | None = None  # before each attempt without TLS


def covered_lines(folder: Path, seed: int, first: int, count: int) -> dict[str, Any]:
    """Play every scene with a share of the corpus; print the lines that ran, and return the percentage."""
    program, settings, report = folder / "program.py", folder / "coveragerc", folder / "coverage.json"
    program.write_text(PROGRAM)
    settings.write_text(_SETTINGS.format(folder=folder))
    tool, rc = [sys.executable, "-m", "coverage"], f"--rcfile={settings}"
    sent = 0
    for scene in SCENES:
        place = folder / scene.name
        place.mkdir()
        most = _FEW if scene.megabytes else count // (len(SCENES) - 1)
        numbers = range(first + sent, first + sent + most)
        with (
            _disk(place, scene.megabytes),
            tls_receiver(place, [*tool, "run", rc, str(program)], **scene.settings) as (receiver, context),
        ):
            sent += attack(receiver.port, seed, numbers, scene.header).sent
            sent += attack_tls(receiver.tls_port, context, seed, numbers[::10]).sent
            scene.play(receiver, context)
    for step in (
        ["combine", "--quiet"],
        ["report", "--show-missing"],
        ["json", "--quiet", "-o", str(report)],
    ):
        subprocess.run([*tool, step[0], rc, *step[1:]], check=True)
    covered = json.loads(report.read_text())["totals"]["percent_covered"]
    return {
        "sent": sent,
        "covered": round(covered, 1),
        "problems": [] if covered >= LEAST else [f"below {LEAST} %"],
    }


@contextmanager
def _disk(place: Path, megabytes: int) -> Iterator[None]:
    """Give a folder a small disk of its own; only root can, for others the scene has a large one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    is_mounted = megabytes and os.geteuid() == 0 and subprocess.run(command, check=False).returncode == 0
    try:
        yield
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def _as_shipped(receiver: RunningReceiver, context: ssl.SSLContext) -> None:
    """Signals, a broken certificate, a killed process, and a stop in the middle of a transfer."""
    receiver.process.send_signal(signal.SIGUSR1)
    receiver.wait_for_log("counted since the start")
    receiver.process.send_signal(signal.SIGHUP)
    receiver.wait_for_log("was read again")
    certificate = next((receiver.data.parent / "authority").glob("*.pem"))
    certificate.write_text("broken")
    with receiver.connect_tls(context) as peer:
        peer.associate()
        peer.socket.close()
    os.kill(receiver.children()[0], signal.SIGKILL)
    receiver.wait_for_log("another is started")
    wait_until(lambda: len(receiver.children()) == 2, "it is not")  # noqa: PLR2004 - as before
    _stop_amid_a_transfer(receiver)


def _stop_amid_a_transfer(receiver: RunningReceiver) -> None:
    with receiver.connect() as busy, receiver.connect() as idle:
        busy.associate()
        idle.associate()
        busy.send(store_message(an_instance(size=200_000))[:-10])
        wait_until(lambda: list(receiver.spool.glob("*/*.part")), "the transfer does not begin")
        receiver.process.send_signal(signal.SIGTERM)
        receiver.process.wait(60)


def _strict(receiver: RunningReceiver, context: ssl.SSLContext) -> None:
    """Whoever is not welcome, one association too many, a certificate of another, and a commitment report."""
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(receiver.connect()).associate()
        for calling in ("TEST", "STRANGER", "BOUND"):
            stack.enter_context(receiver.connect()).send(associate_request(calling=calling))
        receiver.wait_for_log("LOCAL_LIMIT_EXCEEDED")
        receiver.wait_for_log("CERTIFICATE_OF_ANOTHER")
        bound = stack.enter_context(receiver.connect_tls(context))
        bound.send(associate_request(calling="BOUND"))
        receiver.wait_for_log("aborted")  # the first two were silent for too long
        while "are open already" not in receiver.log_text():
            stack.enter_context(receiver.connect())
    with _seated(receiver) as peer:
        for request in _UNTAKEN:
            peer.send(request)
            peer.read_status()
        peer.send(commitment_request(chance_of(0, 0)))
        peer.read_status()
        found = Commitment("1.2.3.4.5", (Reference(CT_IMAGE_STORAGE, "1.2.3.4"),))
        request = max(receiver.spool.glob("*/*.action"), key=lambda path: path.stat().st_mtime)
        request.with_suffix(".result").write_bytes(found.as_json())
        asked = peer.read_response()
        peer.read_pdu()
        peer.send(pdu(4, pdv(7, 3, _event_answer(asked))))
        wait_until(lambda: request.with_suffix(".reported").exists(), "the answer is not noted")


def _seated(receiver: RunningReceiver) -> Peer:
    """Open an association as soon as a seat is free."""
    while True:
        peer = receiver.connect()
        try:
            peer.associate(CONTEXTS)
        except ConnectionError:
            peer.socket.close()
        else:
            return peer


def _event_answer(asked: dict[int, bytes]) -> bytes:
    return command(
        ((0x0100, b"\x00\x81"), (0x0120, asked[0x0110]), (0x0800, b"\x01\x01"), (0x0900, b"\x00\x00"))
    )


def _full(receiver: RunningReceiver, _context: ssl.SSLContext) -> None:
    """Nothing is written, and in the end nobody is let in."""
    wait_until(lambda: _is_turned_away(receiver), "the disk is never called congested")


def _is_turned_away(receiver: RunningReceiver) -> bool:
    with receiver.connect() as peer:
        peer.send(associate_request())
        return peer.read_pdu()[0] == 3  # noqa: PLR2004 - A-ASSOCIATE-RJ


def _filling(receiver: RunningReceiver, _context: ssl.SSLContext) -> None:
    """The disk ends in the middle of instances, of requests, and of an association's folder."""
    sizes = (400_000, 40_000, 4_000, 100)  # the smaller, the less is left
    for number, size in enumerate(size for size in sizes for _ in range(25)):
        with receiver.connect() as peer:
            peer.associate(CONTEXTS)
            peer.store(an_instance(number, size=size), maximum_length=16_384)
            peer.send(commitment_request(chance_of(0, number)))
            peer.read_status()
            peer.release()


def _behind_a_proxy(receiver: RunningReceiver, _context: ssl.SSLContext) -> None:
    """One that says nothing more, and one whose client is not welcome."""
    with receiver.connect() as silent, receiver.connect() as stranger:
        silent.send(b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 104\r\n")
        stranger.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 104\r\n" + associate_request())
        stranger.read_pdu()


SCENES: Final = (
    Scene("as shipped", {}, _as_shipped),
    Scene("behind a proxy", _PROXIED, _behind_a_proxy, header=proxied.header),
    Scene("strict", _RESTRICTED, _strict),
    Scene("full", {"disk_reject_bytes": 1 << 60, "disk_warn_bytes": 1 << 61}, _full),
    Scene("filling", {}, _filling, megabytes=8),
)
