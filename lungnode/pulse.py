"""Signs of life: each program says, in a file and to systemd, that it goes round and whether it is ready.

`lungnode-health PROGRAM` reads the file. It runs every few seconds beside each container, so this module
imports nothing but the standard library.
"""

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

BEAT_S: Final = 5.0  # between two signs of life
ALIVE_S: Final = 60.0  # a program that was silent for longer is taken as dead
FORGOTTEN_S: Final = 86_400.0  # nobody looks for a program any more that was silent for a day
FOLDER: Final = "health"  # below the data folder
PROGRAMS: Final = ("up", "receive", "clerk", "worker-analysis", "worker-delivery", "web")


class Pulse:
    """The signs of life of one program on this host; no failure to give one ever stops the program."""

    def __init__(self, data: Path, program: str) -> None:
        self._path = file_of(data, program)
        # Taken, so that children leave systemd alone: it listens to the main process only.
        self._systemd = os.environ.pop("NOTIFY_SOCKET", "")
        self._said: dict[str, Any] = {}
        self._not_before = 0.0

    def beat(self, *, waiting: str | None = None) -> None:
        """Say that the program goes round; call it often: only news and every fifth second are told.

        Args:
            waiting: What it waits for; empty: nothing, it is ready; None: as it said before.
        """
        if waiting is None:
            waiting = self._said.get("waiting", "")
        said = {"pid": os.getpid(), "ready": not waiting, "waiting": waiting}
        now = time.monotonic()
        if said == self._said and now < self._not_before:
            return
        self._not_before = now + BEAT_S
        with suppress(OSError):
            self._write(said)
        if self._systemd:
            _tell_systemd(self._systemd, f"waits: {waiting}" if waiting else "ready")

    def _write(self, said: dict[str, Any]) -> None:
        if said == self._said:
            os.utime(self._path)  # needs no space on a disk that is full
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._forget_others()
        part = self._path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(said))
        part.replace(self._path)
        self._said = said

    def _forget_others(self) -> None:
        """Remove what killed programs left; each container has a name of its own, so it would pile up."""
        long_ago = time.time() - FORGOTTEN_S
        for path in self._path.parent.iterdir():
            if path.stat().st_mtime < long_ago:
                path.unlink()

    def end(self) -> None:
        """Take the file away: the program ended on purpose."""
        with suppress(OSError):
            self._path.unlink()


def file_of(data: Path, program: str) -> Path:
    """Return a program's file; several hosts may share a data folder."""
    return data / FOLDER / f"{program}-{socket.gethostname()}.json"


def _tell_systemd(address: str, status: str) -> None:
    """Say that we are up, and pet the watchdog. Source: sd_notify(3).

    A program that waits is up: `systemctl start` must not hang until a database is there.
    """
    words = f"READY=1\nWATCHDOG=1\nSTATUS={status}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(words.encode(), address.replace("@", "\0", 1))


def what_is_wrong(path: Path, *, ready: bool) -> str:
    """Return why a program is not alive, or not `ready`; nothing when it is."""
    try:
        silent_s = time.time() - path.stat().st_mtime
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return "gave no sign of life"
    if silent_s > ALIVE_S:
        return f"gave no sign of life for {silent_s:.0f} s"
    return f"waits: {said.get('waiting')}" if ready and not said.get("ready") else ""


def main() -> None:
    """Exit with 0 when the program is alive, with 1 when it is not; `--ready`: and can work."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--ready"]
    data = os.environ.get("LUNGNODE_DATA")
    if len(arguments) != 1 or arguments[0] not in PROGRAMS or not data:
        sys.stderr.write(
            f"lungnode-health [--ready] {'|'.join(PROGRAMS)}, with the data folder in LUNGNODE_DATA.\n"
        )
        sys.exit(2)
    wrong = what_is_wrong(file_of(Path(data), arguments[0]), ready="--ready" in sys.argv)
    if wrong:
        sys.stderr.write(f"{arguments[0]} {wrong}.\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
