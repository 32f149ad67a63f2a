"""Hosts on one machine, on a switch: name spaces of the kernel with name, address and mounts of their own.

A process of this machine that is started `inside` a host has its network and its name; `Host.command` also
gives it the host's mounts.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

SPACES: Final = ("net", "uts")  # what `inside` enters; Source: namespaces(7)
_KEEPER: Final = 'ip link set dev lo up && hostname "$0" && echo ready && exec sleep infinity'
_PROBE: Final = (
    "ip link add name v type veth peer name w && ip link add name s type bridge && ip link set dev v master s"
)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def may_make_hosts() -> bool:
    """Tell whether this process may make name spaces and connect them."""
    if os.geteuid() != 0:
        return False
    done = subprocess.run(("unshare", "--net", "sh", "-c", _PROBE), check=False, capture_output=True)
    return done.returncode == 0


class Host:
    """One host; its keeper is a process that does nothing but hold its name spaces."""

    def __init__(self, name: str, address: str, switch: "Host | None" = None) -> None:
        self.name, self.address, self._switch = name, address, switch
        command = ("unshare", "--net", "--uts", "--mount", "sh", "-c", _KEEPER, name)
        self._keeper = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._keeper.stdout
        assert self._keeper.stdout.readline() == b"ready\n", name

    @property
    def pid(self) -> int:
        """The keeper's process ID."""
        return self._keeper.pid

    def close(self) -> None:
        """Give its name spaces back once the last process in them has ended."""
        self._keeper.kill()
        self._keeper.communicate()

    def command(self, *command: str) -> Sequence[str]:
        """Return the command line that runs a command there; it has the process ID of what it runs."""
        spaces = ("--net", "--uts", "--mount")
        return ("nsenter", f"--target={self.pid}", *spaces, "--", *command)

    def run(self, *command: str) -> None:
        """Run a command there to its end."""
        subprocess.run(self.command(*command), check=True, timeout=30)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and the processes that it starts, be on the host while the block runs."""
        with ExitStack() as stack:
            for space in SPACES:
                own = os.open(f"/proc/thread-self/ns/{space}", os.O_RDONLY)
                stack.callback(os.close, own)
                theirs = os.open(f"/proc/{self.pid}/ns/{space}", os.O_RDONLY)
                stack.callback(os.close, theirs)
                _enter(theirs)
                stack.callback(_enter, own)
            yield

    def bind(self, source: Path, target: Path) -> None:
        """Let the host see a folder of its own in the place of another."""
        self.run("mount", "--bind", str(source), str(target))

    def cut(self) -> None:
        """Pull the cable."""
        self._plug("down")

    def mend(self) -> None:
        """Put the cable back."""
        self._plug("up")

    def _plug(self, state: str) -> None:
        assert self._switch
        self._switch.run("ip", "link", "set", "dev", self.name, state)


def _enter(space: int) -> None:
    if _LIBC.setns(space, 0):
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """Hosts on one switch."""

    def __init__(self, prefix_bits: int = 24) -> None:
        self._bits = prefix_bits
        self.hosts: dict[str, Host] = {}
        self._switch = Host("switch", "")
        self._switch.run("ip", "link", "add", "name", "switch", "type", "bridge")
        self._switch.run("ip", "link", "set", "dev", "switch", "up")

    def add(self, name: str, address: str) -> Host:
        """Connect another host; a name has at most 15 characters."""
        host = self.hosts[name] = Host(name, address, self._switch)
        cable = ("link", "add", "name", name, "type", "veth", "peer", "name", "eth0")
        # The hardware address stays when the host is replaced: others remember it for a while.
        self._switch.run("ip", *cable, "address", _hardware(address), "netns", str(host.pid))
        self._switch.run("ip", "link", "set", "dev", name, "master", "switch", "up")
        host.run("ip", "address", "add", f"{address}/{self._bits}", "dev", "eth0")
        host.run("ip", "link", "set", "dev", "eth0", "up")
        return host

    def replace(self, name: str) -> Host:
        """Let a host lose its power, without a farewell to anybody, and put an empty one in its place.

        Its processes should have been killed while it was cut off.
        """
        gone = self.hosts[name]
        self._switch.run("ip", "link", "delete", "dev", name)
        gone.close()
        return self.add(name, gone.address)

    def close(self) -> None:
        """Disconnect and forget all of them."""
        for host in (*self.hosts.values(), self._switch):
            host.close()


def _hardware(address: str) -> str:
    """Return a hardware address that is administered locally. Source: IEEE 802, 8.2.2."""
    return ":".join(["02", "00", *(f"{int(part):02x}" for part in address.split("."))])


@contextmanager
def network() -> Iterator[Network]:
    """Make a network that is gone when the block ends."""
    made = Network()
    try:
        yield made
    finally:
        made.close()
