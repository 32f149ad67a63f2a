"""Web servers that answer what a test says, over TLS where it has a certificate for them."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tests.certificates import Identity


@dataclass(frozen=True)
class Request:
    """What came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    code: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Request], Reply]


@dataclass
class WebPeer:
    """A running server."""

    scheme: str
    port: int
    asked: list[Request] = field(default_factory=list)

    def url(self, path: str = "", host: str = "127.0.0.1") -> str:
        """Return where it is."""
        return f"{self.scheme}://{host}:{self.port}{path}"


@contextmanager
def web_peer(script: Script, identity: Identity | None = None) -> Iterator[WebPeer]:
    """Run a server while the block runs."""
    asked: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length))
            asked.append(request)
            reply = script(request)
            self.send_response(reply.code)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield WebPeer("https" if identity else "http", server.server_address[1], asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
