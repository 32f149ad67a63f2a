"""The example of HAProxy, with HAProxy: only addresses and ports are others."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.dicom_wire import Peer
from tests.nodes import stop, wait_for
from tests.orthanc import free_port
from tests.receiving import RunningReceiver, an_instance, running_receiver

EXAMPLE = Path(__file__).resolve().parents[1] / "deploy/haproxy/haproxy.cfg"
SCANNER = "127.0.0.44"

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="HAProxy is absent: apt install haproxy"
)


@dataclass
class Balanced:
    """Two receivers behind a running HAProxy."""

    port: int
    receivers: list[RunningReceiver]
    log: Path

    def send(self, number: int) -> int:
        """Send an instance over an association of its own, and return the status."""
        with Peer(self.port, source=SCANNER) as scanner:
            scanner.associate()
            status = scanner.store(an_instance(number))
            scanner.release()
        return status


def example(folder: Path, ports: list[int]) -> tuple[Path, int]:
    """Write the example with addresses of this host; return its file and the DICOM port."""
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "lungnode.pem")
    text, dicom = EXAMPLE.read_text(), free_port()
    for number, port in enumerate(ports, start=1):
        text = text.replace(f"10.0.0.1{number}:11112", f"127.0.0.1:{port}")
    text = text.replace("bind :11112", f"bind 127.0.0.1:{dicom}")
    text = re.sub(r"bind :(2762|443)", lambda _: f"bind 127.0.0.1:{free_port()}", text)
    text = text.replace("/etc/haproxy/lungnode.pem", str(folder / "lungnode.pem"))
    text = text.replace("inter 10s fastinter 1s downinter 2s", "inter 200ms")
    (folder / "haproxy.cfg").write_text(text)
    return folder / "haproxy.cfg", dicom


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Balanced]:
    with ExitStack() as stack:
        receivers = []
        for name in ("1", "2"):
            (tmp_path / name).mkdir()
            running = running_receiver(tmp_path / name, proxies=["127.0.0.1/32"])
            receivers.append(stack.enter_context(running))
        config, port = example(tmp_path, [receiver.port for receiver in receivers])
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(["haproxy", "-f", config], stdout=log, stderr=log)
        stack.callback(stop, process)
        wait_for(lambda: accepts(port), limit_s=30, what="HAProxy")
        yield Balanced(port, receivers, tmp_path / "log")


def accepts(port: int) -> bool:
    try:
        with Peer(port) as peer:
            peer.associate()
            peer.release()
    except OSError:
        return False
    return True


def addresses(receiver: RunningReceiver) -> list[str]:
    files = receiver.spool.glob("*/association.json")
    return [json.loads(file.read_text())["address"] for file in files]


def test_associations_are_spread_and_each_receiver_knows_the_scanner(balanced: Balanced) -> None:
    assert [balanced.send(number) for number in range(1, 5)] == [0] * 4

    for receiver in balanced.receivers:
        assert set(addresses(receiver)) == {SCANNER}
    # Who has not yet seen the end of an association is passed over, so that the shares may differ.
    assert sum(len(receiver.files()) for receiver in balanced.receivers) == 4


def test_a_receiver_that_dies_costs_scanners_another_try_at_most(balanced: Balanced) -> None:
    lost, other = balanced.receivers
    os.kill(lost.process.pid, signal.SIGKILL)
    lost.process.wait()

    def sent(number: int) -> bool:
        with suppress(OSError):  # what was under way to the dead one; a scanner tries again
            return balanced.send(number) == 0
        return False

    for number in range(1, 4):
        wait_for(lambda number=number: sent(number), limit_s=30, what="the other receiver")  # type: ignore[misc]
    # Once it is known to be dead, nobody notices any more.
    wait_for(lambda: "receivers/receiver1 is DOWN" in balanced.log.read_text(), limit_s=30, what="the check")
    assert [balanced.send(number) for number in range(4, 8)] == [0] * 4
    assert len(other.files()) >= 7


def test_looking_whether_a_receiver_lives_is_an_association_that_leaves_nothing(balanced: Balanced) -> None:
    for receiver in balanced.receivers:
        receiver.wait_for_log("association of HAPROXY (127.0.0.1) to LUNGNODE released")

        assert addresses(receiver) == []
