"""What a node stands on: one machine's own means, or PostgreSQL, Redis and an object store beside it."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from redis import Redis

from tests.databases import copied
from tests.nodes import listens, wait_for
from tests.orthanc import free_port
from tests.stores import ObjectServer

ONE_MACHINE: Final = "SQLite, embedded broker, folder"
SERVICES: Final = "PostgreSQL, Redis, S3"


class RedisServer:
    """A Redis of Debian's on loopback that keeps nothing; killed, it forgets all."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process = self._started()

    def _started(self) -> "subprocess.Popen[bytes]":
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        process = subprocess.Popen(("redis-server", *options), stdout=subprocess.DEVNULL)
        wait_for(lambda: listens(self.port) and Redis(port=self.port).ping(), what="Redis")
        return process

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Start it after a kill."""
        self.process.wait()
        self.process = self._started()


@dataclass
class Platform:
    """Where a node's rows, messages and files are."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)  # variables
    database: str = ""  # empty: SQLite in the data folder
    redis: RedisServer | None = None  # None: the node has its own broker

    def database_of(self, data: Path) -> str:
        """Return the URL of a node's database."""
        return self.database or f"sqlite:///{data / 'lungnode.sqlite3'}"


@contextmanager
def platform_named(
    name: str, postgresql: Callable[[], str], objects: Callable[[], ObjectServer]
) -> Iterator[Platform]:
    """Provide what a node stands on while the block runs."""
    if name == ONE_MACHINE:
        yield Platform(name)
        return
    with ExitStack() as stack:
        url = stack.enter_context(copied(postgresql(), "template0"))
        redis = RedisServer()
        stack.callback(redis.stop)
        store = objects().settings("/node")
        named = {
            "LUNGNODE_DATABASE_URL": url,
            "LUNGNODE_BROKER_URL": f"redis://127.0.0.1:{redis.port}/0",
            "LUNGNODE_STORE__URL": store.url,
            "LUNGNODE_STORE__ENDPOINT": store.endpoint,
        }
        yield Platform(name, named, url, redis)
