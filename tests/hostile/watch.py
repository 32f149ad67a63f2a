"""What must hold of a receiver whatever came: no process lost, no thread, descriptor or half file left."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.receiving import RunningReceiver, wait_until

_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ daemon\.[\w.]+: [ -~]*$")
_ALARMS = ("Traceback", "internal error", "an association failed", "another is started", "a receiver process")


@dataclass(frozen=True)
class Footprint:
    """What one process holds."""

    threads: int
    descriptors: int
    resident_kb: int


def footprint(pid: int) -> Footprint:
    """Look at one process."""
    process = Path(f"/proc/{pid}")
    status = (process / "status").read_text()
    return Footprint(
        threads=len(list((process / "task").iterdir())),
        descriptors=len(list((process / "fd").iterdir())),
        resident_kb=int(status.partition("VmRSS:")[2].split()[0]),
    )


@dataclass(frozen=True)
class Watch:
    """A receiver as it was before, to compare with."""

    receiver: RunningReceiver
    before: dict[int, Footprint]

    @classmethod
    def begin(cls, receiver: RunningReceiver) -> "Watch":
        """Note what its serving processes hold while nobody is connected, once each has served somebody."""
        pids, served = receiver.children(), set[int]()
        while served != set(pids):
            with receiver.connect() as one, receiver.connect() as other:
                one.associate()
                other.associate()
                served |= {pid for pid in pids if footprint(pid).threads > 1}
        wait_until(
            lambda: all(footprint(pid).threads == 1 for pid in pids), "a receiver does not come to rest"
        )
        return cls(receiver, {pid: footprint(pid) for pid in pids})

    def problems(self) -> list[str]:
        """Wait until all connections have ended, then say what is not as it was."""
        log = self.receiver.log_text()
        found = [f"the log says {alarm!r}" for alarm in _ALARMS if alarm in log]
        if foreign := [line for line in log.splitlines() if not _LINE.match(line)]:
            found.append(f"a peer wrote into the log: {foreign[0][:100]!r}")
        if set(self.receiver.children()) != set(self.before):
            return [*found, "a serving process died"]
        for what in ("threads", "descriptors"):
            try:
                wait_until(lambda what=what: self._is_back(what), f"{what} are left")  # type: ignore[misc]
            except AssertionError as error:
                found.append(f"{error}: {self.now()}, before: {self.before}")
        if left := [str(path) for path in self.receiver.half_files()]:
            found.append(f"half files are left: {left}")
        return found

    def now(self) -> dict[int, Footprint]:
        """Look again."""
        return {pid: footprint(pid) for pid in self.before}

    def _is_back(self, what: str) -> bool:
        return all(getattr(now, what) <= getattr(self.before[pid], what) for pid, now in self.now().items())
