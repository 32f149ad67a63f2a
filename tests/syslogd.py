"""A real syslog server: rsyslog, over TLS or UDP, with certificates of its own authority."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trustme

from lungnode.settings import SyslogSettings
from lungnode.settings.tls import PeerTls
from tests.nodes import wait_for

PROGRAM: Final = "/usr/sbin/rsyslogd"

_COMMON: Final = """
global(workDirectory="{folder}" maxMessageSize="64k")
template(name="raw" type="string" string="%rawmsg%\\n")
action(type="omfile" file="{folder}/messages" template="raw")
"""
_TLS: Final = """
global(defaultNetstreamDriver="gtls"
       defaultNetstreamDriverCAFile="{folder}/authority.pem"
       defaultNetstreamDriverCertFile="{folder}/server.pem"
       defaultNetstreamDriverKeyFile="{folder}/server.key")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="{authentication}")
input(type="imtcp" address="127.0.0.1" port="{port}")
"""
_UDP: Final = """
module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{port}")
"""


@dataclass(frozen=True)
class Syslogd:
    """A running server and its authority."""

    folder: Path
    port: int
    authority: trustme.CA

    def settings(self, **changes: Any) -> SyslogSettings:
        """How a client calls it."""
        tls = PeerTls(authorities=self.folder / "authority.pem")
        told = {"host": "127.0.0.1", "port": self.port, "tls": tls, "timeout_s": 30.0}
        return SyslogSettings(**(told | changes))

    def messages(self, count: int) -> list[bytes]:
        """Wait for so many messages; return them as they came."""

        def enough() -> list[bytes]:
            file = self.folder / "messages"
            written = file.read_bytes() if file.exists() else b""
            return written.splitlines() if written.count(b"\n") >= count else []  # a part is no message

        return wait_for(enough, what=f"{count} messages")


@contextmanager
def running_syslogd(
    folder: Path, *, port: int = 0, udp: bool = False, authentication: str = "anon"
) -> Iterator[Syslogd]:
    """Run the server while the block runs; x509/certvalid asks for the client's certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    ours = authority.issue_cert("127.0.0.1")
    ours.cert_chain_pems[0].write_to_path(folder / "server.pem")
    ours.private_key_pem.write_to_path(folder / "server.key")
    port = port or free_port(socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    text = (_UDP if udp else _TLS) + _COMMON
    (folder / "conf").write_text(text.format(folder=folder, port=port, authentication=authentication))
    command = [PROGRAM, "-n", "-i", str(folder / "pid"), "-f", str(folder / "conf")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: _is_bound(port) if udp else _listens(port), what="the syslog server")
        yield Syslogd(folder, port, authority)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that nobody uses."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_bound(port: int) -> bool:
    """Tell whether a UDP port is in use. Source: proc(5), /proc/net/udp."""
    return f":{port:04X} " in Path("/proc/net/udp").read_text()
