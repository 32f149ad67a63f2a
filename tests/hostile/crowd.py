"""Many associations at once, all of them honest: what was acknowledged is there, and memory is flat."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from tests.dicom_wire import Peer
from tests.hostile.watch import footprint
from tests.receiving import RunningReceiver, an_instance, digest, digest_of_data_set

_LOOK_EVERY: Final = 1_000
GROWTH_KB: Final = 20_000  # of a process that has served thousands


@dataclass
class Crowd:
    """Senders with an association each."""

    receiver: RunningReceiver
    senders: int
    size: int = 50_000
    statuses: list[int] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)  # digests of what was acknowledged
    resident_kb: list[int] = field(default_factory=list)  # the larger process, every thousand instances

    def send(self, count: int) -> dict[str, Any]:
        """Send so many instances, shared among all, and say what came of it."""
        peers = [self.receiver.connect() for _ in range(self.senders)]
        for peer in peers:
            peer.associate()
        threads = [
            threading.Thread(target=self._send, args=(peer, range(share, count, self.senders)))
            for share, peer in enumerate(peers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for peer in peers:
            peer.release()
            peer.socket.close()
        return {
            "sent": count,
            "acknowledged": self.kept.total(),
            "statuses": {f"0x{status:04X}": times for status, times in Counter(self.statuses).items()},
            "resident_kb": self.resident_kb,
            "problems": self._problems(count),
        }

    def _send(self, peer: Peer, numbers: range) -> None:
        for number in numbers:
            instance = an_instance(number, self.size)
            status = peer.store(instance)
            self.statuses.append(status)
            if status == 0:
                self.kept[digest(instance.data_set)] += 1
            if number % _LOOK_EVERY == 0:
                found = [footprint(pid).resident_kb for pid in self.receiver.children()]
                self.resident_kb.append(max(found))

    def _problems(self, count: int) -> list[str]:
        lost = self.kept - Counter(digest_of_data_set(path) for path in self.receiver.files())
        found = [f"{lost.total()} acknowledged instances are lost"] if lost else []
        if len(self.statuses) != count:
            found.append(f"{count - len(self.statuses)} instances have no status")
        settled = self.resident_kb[1:]  # the first look is at a process that has hardly begun
        if settled and max(settled) - settled[0] > GROWTH_KB:
            found.append(f"memory grew: {self.resident_kb}")
        return found
