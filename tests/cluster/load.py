"""Scanners that send to a cluster while things happen to it, and what must be true when all is calm."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lungnode.phantom import PhantomStudy, phantom_study
from tests.cluster.node import BALANCER, PORT, Cluster
from tests.faults.invariants import doubled, left_over, lost, untold
from tests.faults.rounds import wait_for_calm
from tests.faults.scanner import Sent, send_study

SCANNERS: Final = 2
SLICES: Final = 12
SIZE: Final = 256  # rows and columns
_PAUSE_S: Final = 0.3  # between two instances
_SEND_LIMIT_S: Final = 180.0
_PATIENCE_S: Final = 6.0  # for an answer, then the scanner tries again


class Load:
    """Scanners that send one study after the other."""

    def __init__(self, cluster: Cluster, folder: Path, first: int) -> None:
        self.sent: dict[str, Sent] = {}  # by Study Instance UID
        self._cluster, self._folder, self._next = cluster, folder, first
        self._pool = ThreadPoolExecutor(SCANNERS)
        self._sending: list[Future[None]] = []

    def send(self) -> None:
        """Let the scanner that is free first send another study."""
        self._sending.append(self._pool.submit(self._send, self._next))
        self._next += 1

    def wait(self) -> None:
        """Wait until all is sent."""
        for each in self._sending:
            each.result()
        self._pool.shutdown()

    def _send(self, seed: int) -> None:
        study = _study(self._folder, seed)
        with self._cluster.host("scanner").inside():
            self.sent[study.study_instance_uid] = send_study(
                study.paths,
                PORT,
                pause_s=_PAUSE_S,
                limit_s=_SEND_LIMIT_S,
                host=BALANCER,
                patience_s=_PATIENCE_S,
            )


@contextmanager
def scanning(cluster: Cluster, folder: Path, first: int) -> Iterator[Load]:
    """Have scanners that send what the block asks for; it is all sent when the block has ended.

    `first` is the seed of the first study; no two studies of one cluster have the same.
    """
    load = Load(cluster, folder, first)
    try:
        yield load
    finally:
        load.wait()


def _study(folder: Path, seed: int) -> PhantomStudy:
    return phantom_study(folder / str(seed), SLICES, lesions=True, seed=seed, size=SIZE)


def violations(cluster: Cluster, sent: Mapping[str, Sent]) -> Iterator[str]:
    """Wait until all is calm, and name everything that was lost, doubled, left over or not told."""
    _, _, restless = wait_for_calm(cluster, sent)
    yield from (f"{each.unsent} instances of {uid} unsent" for uid, each in sent.items() if each.unsent)
    yield from (f"study {uid} did not come to rest" for uid in restless)
    for uid, each in sent.items():
        yield from lost(cluster.engine, cluster.data / "archive", each.acknowledged)
        with cluster.host("pacs").inside():
            yield from doubled(cluster.engine, cluster.orthanc, uid)
    yield from left_over(*cluster.spools(), cluster.data / "outputs/staging")
    yield from untold(cluster.engine, sent)
