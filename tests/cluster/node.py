"""A node on many hosts: receivers with clerks behind HAProxy, workers, PostgreSQL, Redis, Orthanc as PACS.

The addresses are those of the example of HAProxy. The hosts share a folder as they would a mount; each host
with a receiver has a spool of its own in it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pytest
import trustme
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine

from db.session import open_engine
from lungnode.errors import UnavailableError
from lungnode.pulse import file_of, what_is_wrong
from tests.cluster.hosts import Host, Network, may_make_hosts, network
from tests.nodes import children, variables, wait_for
from tests.orthanc import Orthanc, running_orthanc
from tests.postgres import PostgreSQL, running_postgresql

T = TypeVar("T")
REPOSITORY: Final = Path(__file__).resolve().parents[2]
BALANCER: Final = "10.0.0.5"
PORT: Final = 11112
INTAKE: Final = ("receive", "clerk")
WORK: Final = ("worker --queue analysis", "worker --queue delivery")
ROLES: Final = {"intake1": INTAKE, "intake2": INTAKE, "work1": WORK, "work2": WORK}
_ADDRESSES: Final = {
    "balancer": BALANCER,
    "intake1": "10.0.0.11",
    "intake2": "10.0.0.12",
    "work1": "10.0.0.21",
    "work2": "10.0.0.22",
    "database": "10.0.0.31",
    "broker": "10.0.0.32",
    "pacs": "10.0.0.41",
    "scanner": "10.0.0.51",
}
LEASE_S: Final = 8.0
_SETTINGS: Final = """
[receiver]
processes = 1
proxies = ["10.0.0.5/32"]
idle_s = 8.0
disk_reject_bytes = 1000000
[clerk]
poll_s = 0.2
quiet_s = 2.0
gap_quiet_s = 3.0
sweep_s = 1.0
[analysis]
lease_s = {lease_s}
batch = 4
heatmaps = 2
max_attempts = 10
[delivery]
lease_s = {lease_s}
backoff_s = 1.0
backoff_max_s = 2.0
[[destinations]]
name = "ORTHANC"
ae_title = "ORTHANC"
host = "10.0.0.41"
port = {pacs}
timeout_s = 5.0
"""
# How soon both ends of a connection to the database believe that the other one is gone.
IMPATIENT: Final = (
    "connect_timeout=3&keepalives_idle=2&keepalives_interval=1&keepalives_count=2&tcp_user_timeout=4000"
)


def skip_where_impossible() -> None:
    """Skip the test where hosts cannot be made, or where a program of theirs is absent."""
    if not may_make_hosts():
        pytest.skip(
            "hosts need the right to make network name spaces: root, or CAP_SYS_ADMIN and CAP_NET_ADMIN"
        )
    for program, package in (
        ("haproxy", "haproxy"),
        ("redis-server", "redis-server"),
        ("Orthanc", "orthanc"),
    ):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is absent: apt install {package}")


@dataclass
class Cluster:
    """All of it, running."""

    folder: Path
    network: Network
    server: PostgreSQL
    broker: "subprocess.Popen[bytes]"
    orthanc: Orthanc
    engine: Engine
    release: Path = REPOSITORY  # what is started from now on
    programs: dict[tuple[str, str], "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The folder that all hosts share."""
        return self.folder / "shared"

    def spools(self) -> list[Path]:
        """Return the spool of each host that has one."""
        return [self.folder / name for name, roles in ROLES.items() if roles is INTAKE]

    def host(self, name: str) -> Host:
        """Return a host."""
        return self.network.hosts[name]

    def ask(self, question: Callable[[Engine], T]) -> T | None:
        """Return what the database answers; None while it does not."""
        try:
            return question(self.engine)
        except UnavailableError:
            return None

    def run(self, name: str, command: str) -> None:
        """Run a command on a host to its end, of the release in force."""
        self._open(name, command).wait(120)

    def start(self, name: str, role: str) -> None:
        """Start a program on a host, of the release in force."""
        self.programs[name, role] = self._open(name, role)

    def _open(self, name: str, command: str) -> "subprocess.Popen[bytes]":
        arguments = (sys.executable, "-m", "lungnode", *command.split(), "--data", str(self.data))
        own = {
            "LUNGNODE_CONFIG": str(self.folder / "lungnode.toml"),
            "LUNGNODE_DATABASE_URL": f"postgresql://lungnode@10.0.0.31/postgres?{IMPATIENT}",
            "LUNGNODE_BROKER_URL": "redis://10.0.0.32:6379/0",
            "PYTHONPATH": str(self.release),
            "OMP_NUM_THREADS": "1",
        }
        with self.log(name).open("ab") as log:
            inside = self.host(name).command(*arguments)
            return subprocess.Popen(inside, env=variables(own), stdout=log, stderr=log)

    def start_all(self, name: str) -> None:
        """Start all programs of a host, and wait until they can work."""
        for role in ROLES[name]:
            self.start(name, role)
        for role in ROLES[name]:
            self.wait_until_ready(name, role)

    def log(self, name: str) -> Path:
        """Return the file with what the programs of a host say."""
        return self.folder / f"{name}.log"

    def wait_until_ready(self, name: str, role: str) -> None:
        """Wait until a program can work."""
        program = role.replace(" --queue ", "-")
        with self.host(name).inside():
            file = file_of(self.data, program)
        pid = self.programs[name, role].pid

        def is_ready() -> bool:
            return not what_is_wrong(file, ready=True) and f'"pid": {pid},' in file.read_text()

        wait_for(is_ready, limit_s=120, what=f"{role} on {name}")

    def stop(self, name: str, role: str) -> int:
        """Ask a program to end; return its exit code."""
        process = self.programs.pop((name, role))
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def kill(self, name: str) -> None:
        """Kill -9 all programs of a host at once, and what they started."""
        for key in [key for key in self.programs if key[0] == name]:
            process = self.programs.pop(key)
            for pid in (process.pid, *_descendants(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def lose_power(self, name: str) -> None:
        """Let the database's or the broker's host go without a farewell, and come back."""
        self.host(name).cut()
        if name == "broker":
            end(self.broker)
            self.broker = start_broker(self.network.replace(name))
            return
        self.server.kill()
        with self.network.replace(name).inside():
            self.server.start()

    def close(self) -> None:
        """End all programs."""
        end(self.broker)
        for name in ROLES:
            self.kill(name)


def _descendants(pid: int) -> list[int]:
    try:
        found = list(children(pid))
    except FileNotFoundError:
        return []
    return found + [below for child in found for below in _descendants(child)]


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Run all of it while the block runs."""
    skip_where_impossible()
    with ExitStack() as stack:
        hosts = stack.enter_context(network())
        for name, address in _ADDRESSES.items():
            hosts.add(name, address)
        with hosts.hosts["database"].inside():
            server = stack.enter_context(running_postgresql("10.0.0.31", "10.0.0.0/24"))
        with hosts.hosts["pacs"].inside():
            orthanc = stack.enter_context(running_orthanc(folder))
        broker = start_broker(hosts.hosts["broker"])
        engine = open_engine(server.url)
        stack.callback(engine.dispose)
        cluster = Cluster(folder, hosts, server, broker, orthanc, engine)
        stack.callback(cluster.close)
        (folder / "lungnode.toml").write_text(_SETTINGS.format(lease_s=LEASE_S, pacs=orthanc.dicom_port))
        _make_folders(cluster)
        for name, roles in ROLES.items():
            for role in roles:
                cluster.start(name, role)
        stack.callback(end, _start_balancer(cluster))
        for name, role in list(cluster.programs):
            cluster.wait_until_ready(name, role)
        yield cluster


def _make_folders(cluster: Cluster) -> None:
    (cluster.data / "spool").mkdir(parents=True)
    for spool in cluster.spools():
        spool.mkdir()
        cluster.host(spool.name).bind(spool, cluster.data / "spool")


def start_broker(host: Host) -> "subprocess.Popen[bytes]":
    """Start Redis on a host; it keeps nothing."""
    options = (
        "--bind",
        host.address,
        "127.0.0.1",
        "--protected-mode",
        "no",
        "--save",
        "",
        "--appendonly",
        "no",
    )
    process = subprocess.Popen(host.command("redis-server", *options), stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with suppress(RedisError), host.inside(), Redis(socket_connect_timeout=1) as client:
            return bool(client.ping())
        return False

    wait_for(answers, what="Redis")
    return process


def _start_balancer(cluster: Cluster) -> "subprocess.Popen[bytes]":
    folder = cluster.folder
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "lungnode.pem")
    text = (REPOSITORY / "deploy/haproxy/haproxy.cfg").read_text()
    text = text.replace("/etc/haproxy/lungnode.pem", str(folder / "lungnode.pem"))
    text = re.sub("inter 10s fastinter 1s downinter 2s", "inter 1s", text)
    (folder / "haproxy.cfg").write_text(text)
    with cluster.log("balancer").open("wb") as log:
        command = cluster.host("balancer").command("haproxy", "-f", str(folder / "haproxy.cfg"))
        return subprocess.Popen(command, stdout=log, stderr=log)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and wait for its end."""
    process.kill()
    process.wait()
