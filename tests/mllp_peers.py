"""Receivers of HL7 messages: hl7apy's own server, which answers what a test says."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from hl7apy.mllp import AbstractHandler, MLLPServer

from tests.certificates import Identity

Script = Callable[[str], str]


@dataclass
class MllpPeer:
    """A running receiver and the messages that it got."""

    port: int
    received: list[str] = field(default_factory=list)


def acknowledged(message: str, code: str = "AA", error: str = "", said: str = "") -> str:
    """Frame an acknowledgement of a message. Source: HL7 2.5.1 2.14.3."""
    control_id = message.split("\r", maxsplit=1)[0].split("|")[9]
    lines = [
        "MSH|^~\\&|RIS|HOSP|LUNGNODE||20260304||ACK^R01^ACK|1|P|2.5.1",
        f"MSA|{code}|{control_id}|{said}",
    ]
    if error:
        lines.append(f"ERR||PID^1|{error}^some error^HL70357|E||||told the user")
    return "\x0b" + "\r".join(lines) + "\r\x1c\r"


@contextmanager
def mllp_peer(script: Script = acknowledged, identity: Identity | None = None) -> Iterator[MllpPeer]:
    """Run a receiver while the block runs; over TLS where it has a certificate."""
    received: list[str] = []

    class Handler(AbstractHandler):  # type: ignore[misc]
        def reply(self) -> str:
            received.append(self.incoming_message)
            return script(self.incoming_message)

    handlers: dict[str, Any] = {"ORU^R01^ORU_R01": (Handler,)}
    server = MLLPServer("127.0.0.1", 0, handlers)
    server.daemon_threads = True
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield MllpPeer(server.server_address[1], received)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
