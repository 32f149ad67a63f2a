"""A private PostgreSQL server in one folder, on a Unix socket: it opens no port unless it is told to."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.nodes import children, lives, wait_for

BINARIES: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class PostgreSQL:
    """A server that can be killed and started again."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder, self._durable = folder, durable
        self._address = ""
        self._account = _unprivileged_account()
        if self._account:
            shutil.chown(folder, self._account)

    @property
    def url(self) -> str:
        """Its first database."""
        return f"postgresql://lungnode@/postgres?host={self._folder}"

    def create(self) -> None:
        """Make an empty cluster."""
        self._run("initdb", "--no-sync", "--auth=trust", "--username=lungnode", "--encoding=UTF8")

    def listen(self, address: str, network: str) -> None:
        """Also serve everybody of a network at an address, from the next start on."""
        self._address = address
        with (self._folder / "data/pg_hba.conf").open("a") as file:
            file.write(f"host all all {network} trust\n")

    def start(self) -> None:
        """Serve; after a kill, mend first."""
        # Synchronising protects from power failures, which no test simulates; who measures time pays for it.
        sockets = f"-c listen_addresses={self._address} -c unix_socket_directories={self._folder}"
        options = f"{sockets} -c fsync={'on' if self._durable else 'off'}"
        self._run("pg_ctl", "--wait", f"--log={self._folder}/log", f"--options={options}", "start")

    def stop(self) -> None:
        """End at once."""
        if self._postmaster():
            self._run("pg_ctl", "--wait", "--mode=immediate", "stop")

    def kill(self) -> None:
        """Kill -9 every process of it."""
        first = self._postmaster()
        for pid in (first, *children(first)) if first else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not lives(first), what="the server's end")
        # Where nobody takes leave of orphans, its number stays in use, and the next one would not start.
        for name in ("data/postmaster.pid", ".s.PGSQL.5432.lock"):
            (self._folder / name).unlink(missing_ok=True)

    def _postmaster(self) -> int:
        file = self._folder / "data/postmaster.pid"
        pid = int(file.read_text().split()[0]) if file.exists() else 0
        return pid if Path(f"/proc/{pid}/task").exists() else 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BINARIES[-1] / program), f"--pgdata={self._folder}/data", *arguments]
        subprocess.run(
            command, user=self._account, cwd=self._folder, check=True, stdout=subprocess.DEVNULL, timeout=60
        )


def _unprivileged_account() -> str | None:
    # PostgreSQL refuses to run as root.
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def running_postgresql(
    address: str = "", network: str = "", *, durable: bool = False
) -> Iterator[PostgreSQL]:
    """Run a server while the block runs; at an `address`, if there is one, for everybody of a `network`."""
    if not BINARIES:
        pytest.skip("PostgreSQL is absent: apt install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="lungnode-pg-"))
    server = PostgreSQL(folder, durable=durable)
    try:
        server.create()
        if address:
            server.listen(address, network)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
