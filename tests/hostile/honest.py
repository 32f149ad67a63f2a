"""An honest sender, served while others attack: every instance acknowledged, every one intact afterwards."""

import threading
from collections import Counter
from types import TracebackType
from typing import Final, Self

from daemon.receiver.dimse import Status
from tests.dicom_wire import Peer
from tests.receiving import RunningReceiver, an_instance, digest, digest_of_data_set

_PER_ASSOCIATION: Final = 20


class Honest:
    """Sends instances one after the other, over one association after the other, until told to stop."""

    def __init__(self, receiver: RunningReceiver, size: int = 20_000, pause_s: float = 0.0) -> None:
        """Be ready to send instances of `size` bytes, `pause_s` apart."""
        self.acknowledged: list[str] = []  # digests
        self.refused: Counter[str] = Counter()
        self._receiver = receiver
        self._size = size
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._first_done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._first_done.wait()
        self._stop.set()
        self._thread.join()

    def problems(self) -> list[str]:
        """Say what was refused, and which acknowledged instances are not on disk as they were sent."""
        held = Counter(digest_of_data_set(path) for path in self._receiver.files())
        lost = [each for each in self.acknowledged if not held[each]]
        found = [f"{count} honest instances: {what}" for what, count in self.refused.items()]
        if lost:
            found.append(
                f"{len(lost)} of {len(self.acknowledged)} acknowledged instances are lost or damaged"
            )
        return found if self.acknowledged else [*found, "no honest instance was acknowledged"]

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with self._receiver.connect() as peer:
                    peer.associate()
                    number = self._send(peer, number)
                    peer.release()
            except OSError as error:
                self.refused[f"{type(error).__name__} {error}"] += 1
            self._first_done.set()

    def _send(self, peer: Peer, number: int) -> int:
        for _ in range(_PER_ASSOCIATION):
            number += 1
            instance = an_instance(number, self._size)
            status = peer.store(instance)
            self._stop.wait(self._pause_s)
            if status == Status.SUCCESS:
                self.acknowledged.append(digest(instance.data_set))
            else:
                self.refused[f"status 0x{status:04X}"] += 1
        return number
