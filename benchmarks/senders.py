"""The three senders of the benchmark: `storescu` twice, and one whose messages are encoded beforehand."""

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from ssl import SSLContext
from typing import Final, Protocol

from benchmarks.instances import encode_file
from benchmarks.receivers import AE_TITLE
from tests.dicom_wire import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Context,
    Instance,
    Peer,
    associate_request,
    store_message,
)

AS_SHIPPED: Final = "storescu"
NODELAY: Final = "storescu, TCP_NODELAY=1"
PRE_ENCODED: Final = "pre-encoded"
_TIMEOUT_S: Final = 300.0
_MAXIMUM_LENGTH: Final = 131_072  # DCMTK's largest
_FORK: Final = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Pass:
    """One measured pass over one receiver."""

    images: int
    bytes: int
    seconds: float
    latencies_s: list[float] = field(default_factory=list)  # of each C-STORE, where the sender knows


class Sender(Protocol):
    """Sends instances over a number of associations at once."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def send(self, port: int, instances: list[Instance], associations: int) -> Pass:
        """Send them all; the pass is over with the last response."""


@dataclass(frozen=True)
class StoreScu:
    """DCMTK's storescu, a process an association."""

    name: str
    environment: dict[str, str]

    def send(self, port: int, instances: list[Instance], associations: int) -> Pass:
        """Write the files to memory, then send them; starting the processes counts."""
        memory = Path("/dev/shm")  # noqa: S108 - reading must not touch the disk that is measured
        folder = Path(tempfile.mkdtemp(prefix="lungnode-benchmark-", dir=memory if memory.is_dir() else None))
        try:
            shares = [folder / str(share) for share in range(associations)]
            for share in shares:
                share.mkdir()
            for number, instance in enumerate(instances):
                (shares[number % associations] / f"{number}.dcm").write_bytes(encode_file(instance))
            seconds = self._run(port, shares)
        finally:
            shutil.rmtree(folder)
        return Pass(len(instances), sum(len(instance.data_set) for instance in instances), seconds)

    def _run(self, port: int, shares: list[Path]) -> float:
        options = ["storescu", "+sd", "-aec", AE_TITLE, "127.0.0.1", str(port)]
        start = time.perf_counter()
        processes = [
            subprocess.Popen([*options, str(share)], env=os.environ | self.environment) for share in shares
        ]
        codes = [process.wait(_TIMEOUT_S) for process in processes]
        seconds = time.perf_counter() - start
        if any(codes):
            raise RuntimeError(f"{self.name} to port {port} failed: {codes}")
        return seconds


@dataclass(frozen=True)
class PreEncoded:
    """Whole messages in one `sendall` each: as fast as a sender can be."""

    name: str = PRE_ENCODED
    context: SSLContext | None = None  # None: without TLS

    def send(self, port: int, instances: list[Instance], associations: int) -> Pass:
        """Encode, associate, wait for each other, send; only sending counts."""
        barrier = _FORK.Barrier(associations)
        pipes, processes = [], []
        for share in range(associations):
            mine, theirs = _FORK.Pipe(duplex=False)
            arguments = (port, instances[share::associations], barrier, theirs, self.context)
            process = _FORK.Process(target=_send_share, args=arguments, daemon=True)
            process.start()
            theirs.close()
            pipes.append(mine)
            processes.append(process)
        results = [pipe.recv() for pipe in pipes]
        for process in processes:
            process.join(_TIMEOUT_S)
        seconds = max(end for _, end, _ in results) - min(start for start, _, _ in results)
        latencies = [latency for *_, share in results for latency in share]
        size = sum(len(instance.data_set) for instance in instances)
        return Pass(len(instances), size, seconds, latencies)


def _send_share(
    port: int,
    instances: list[Instance],
    barrier: Barrier,
    result: Connection,
    context: SSLContext | None,
) -> None:
    messages = [
        store_message(instance, number % 65_535 + 1, maximum_length=_MAXIMUM_LENGTH)
        for number, instance in enumerate(instances)
    ]
    with Peer(port) as peer:
        if context is not None:
            peer.encrypt(context)
        contexts = ((1, instances[0].sop_class_uid, (instances[0].transfer_syntax_uid,)),)
        limit = _limit_of(peer, contexts)
        if 0 < limit < _MAXIMUM_LENGTH:
            messages = [
                store_message(instance, number % 65_535 + 1, maximum_length=limit)
                for number, instance in enumerate(instances)
            ]
        barrier.wait(_TIMEOUT_S)
        start, latencies = time.perf_counter(), []
        for message in messages:
            before = time.perf_counter()
            peer.send(message)
            status = peer.read_status()
            latencies.append(time.perf_counter() - before)
            if status:
                raise RuntimeError(f"port {port} answered {status:#06x}")
        result.send((start, time.perf_counter(), latencies))
        peer.release()


def _limit_of(peer: Peer, contexts: tuple[Context, ...]) -> int:
    peer.send(associate_request(contexts, called=AE_TITLE))
    pdu_type, body = peer.read_pdu()
    if pdu_type != 2:  # noqa: PLR2004 - A-ASSOCIATE-AC
        raise RuntimeError(f"not accepted: {pdu_type}")
    position = body.index(b"\x51\x00\x00\x04") + 4
    return int.from_bytes(body[position : position + 4], "big")


def set_up_s(port: int, sop_class_uids: list[str], repeats: int) -> list[float]:
    """Return the seconds from connecting to the A-ASSOCIATE-AC, each of `repeats` times."""
    syntaxes = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
    contexts = [(2 * number + 1, uid, syntaxes) for number, uid in enumerate(sop_class_uids)]
    request = associate_request(contexts, called=AE_TITLE)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        with Peer(port) as peer:
            peer.send(request)
            pdu_type, _body = peer.read_pdu()
            times.append(time.perf_counter() - start)
            if pdu_type != 2:  # noqa: PLR2004 - A-ASSOCIATE-AC
                raise RuntimeError(f"port {port} did not accept: {pdu_type}")
            peer.release()
    return times


def all_senders() -> tuple[Sender, ...]:
    """The three kinds."""
    return (StoreScu(AS_SHIPPED, {}), StoreScu(NODELAY, {"TCP_NODELAY": "1"}), PreEncoded())
