"""Who is connected, over all processes, in memory that they share: nobody takes more places than allowed.

Each process frees its own places; the parent frees those of one that died: `kill -9` frees them as well.
"""

import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv6Address
from typing import Final

from daemon.receiver.pdu import Rejection
from lungnode.settings import ReceiverSettings

_SPARE: Final = 64  # connections beyond the associations: for rejections, probes and peers that leave
_FREE: Final = 0
_CONNECTION: Final = 1
_ASSOCIATION: Final = 2
_NOBODY: Final = 0
_ADDRESS_BYTES: Final = 8
_NETWORK_BYTES: Final = 8  # of an IPv6 address: a host has all addresses of a /64


@dataclass(frozen=True)
class Limits:
    """How many at once; `of_address`: from one address."""

    connections: int
    connections_of_address: int
    associations: int
    associations_of_address: int


def limits_of(settings: ReceiverSettings) -> Limits:
    """Return the limits that follow from the settings; one address never gets the last spare connection."""
    return Limits(
        connections=settings.max_associations + _SPARE,
        connections_of_address=settings.max_associations_per_address + _SPARE // 2,
        associations=settings.max_associations,
        associations_of_address=settings.max_associations_per_address,
    )


class Seats:
    """A place for each connection: which process serves it, where it comes from, whether it is associated."""

    def __init__(self, processes: int, limits: Limits) -> None:
        self._processes = processes
        self._limits = limits
        self._owners = memoryview(mmap.mmap(-1, limits.connections))  # process + 1; 0: the place is free
        self._kinds = memoryview(mmap.mmap(-1, limits.connections))
        self._addresses = memoryview(mmap.mmap(-1, limits.connections * _ADDRESS_BYTES)).cast("Q")
        self._threads = threading.Lock()
        # A record lock on a file without a name: shared by fork, dropped by the kernel with its holder.
        self._file = os.memfd_create("seats")

    def connections(self) -> list[int]:
        """Return how many connections each process has."""
        owners = bytes(self._owners)
        return [owners.count(process + 1) for process in range(self._processes)]

    def enter(self, process: int, address: str, *, is_proxy: bool = False) -> int | None:
        """Take a place for a connection; None: there are too many, of this address or altogether.

        A proxy stands for many addresses: its connections are nobody's until `belong` says whose they are.
        """
        key = _NOBODY if is_proxy else _key(address)
        with self._locked():
            place = bytes(self._owners).find(_FREE)
            same = 0 if is_proxy else self._addresses.tolist().count(key)
            if place < 0 or same >= self._limits.connections_of_address:
                return None
            self._owners[place] = process + 1
            self._kinds[place] = _CONNECTION
            self._addresses[place] = key
            return place

    def belong(self, place: int, address: str) -> None:
        """Let a connection of a proxy count as one of `address`."""
        self._addresses[place] = _key(address)

    def leave(self, place: int) -> None:
        """Free a place."""
        with self._locked():
            self._free(place)

    def take(self, place: int) -> Rejection | None:
        """Make a connection an association; a rejection: there are too many, of this address or in all."""
        with self._locked():
            kinds, key = bytes(self._kinds), self._addresses[place]
            if kinds.count(_ASSOCIATION) >= self._limits.associations:
                return Rejection.LOCAL_LIMIT_EXCEEDED
            same = zip(kinds, self._addresses.tolist(), strict=True)
            if sum(kind == _ASSOCIATION and other == key for kind, other in same) >= (
                self._limits.associations_of_address
            ):
                return Rejection.ADDRESS_LIMIT_EXCEEDED
            self._kinds[place] = _ASSOCIATION
            return None

    def give_back(self, place: int) -> None:
        """Make an association a mere connection again."""
        self._kinds[place] = _CONNECTION

    def clear(self, process: int) -> None:
        """Free what a dead process held; the parent calls it before the next one starts."""
        with self._locked():
            for place, owner in enumerate(bytes(self._owners)):
                if owner == process + 1:
                    self._free(place)

    def _free(self, place: int) -> None:
        self._owners[place] = self._kinds[place] = _FREE
        self._addresses[place] = _NOBODY

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Record locks belong to a process: its threads need one of their own.
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def _key(address: str) -> int:
    """Return a number that stands for a host: an IPv4 address, or the network of an IPv6 one."""
    name = address.encode("ascii")
    if ":" in address:
        parsed = IPv6Address(address.partition("%")[0])
        mapped = parsed.ipv4_mapped
        name = str(mapped).encode("ascii") if mapped else parsed.packed[:_NETWORK_BYTES]
    return int.from_bytes(blake2b(name, digest_size=_ADDRESS_BYTES).digest(), "big")
