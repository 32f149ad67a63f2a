"""An S3-compatible server on loopback: moto's, behind what can go wrong on the way to it."""

import base64
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from lungnode.settings import StoreSettings

KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class ObjectServer:
    """The server; its objects outlive `is_down`."""

    url: str = ""
    is_down: bool = False  # answers nothing but 503
    dies_after_puts: int | None = None  # goes down when it took so many more
    garbles: bool = False  # what is sent to it arrives as something else
    puts: list[str] = field(default_factory=list)  # every object that came, by path of its URL
    gets: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def mend(self) -> None:
        """Take all faults away, and forget what came."""
        self.garbles = False
        self.revive()
        self.puts.clear()
        self.gets.clear()

    def revive(self) -> None:
        """Answer again."""
        self.is_down, self.dies_after_puts = False, None

    @contextmanager
    def client(self) -> Iterator[Any]:
        """AWS's own client of the store."""
        import boto3  # noqa: PLC0415 - loads for a second

        client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")
        yield client
        client.close()

    def settings(self, prefix: str = "") -> StoreSettings:
        """Take all faults away, make a bucket, and return the settings that name it."""
        self.mend()
        bucket = f"lungnode-{uuid4().hex[:12]}"
        with self.client() as client:
            client.create_bucket(Bucket=bucket)
        return StoreSettings(url=f"s3://{bucket}{prefix}", endpoint=self.url, timeout_s=20)

    def wrapped(self, application: Wsgi) -> Wsgi:
        """Put the faults before an application."""

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            refusal = self._refusal(environ)
            if refusal:
                start(refusal, [("Content-Type", "application/xml"), ("Connection", "close")])
                code = refusal.partition(" ")[2].replace(" ", "")
                return [f"<Error><Code>{code}</Code><Message>{refusal}</Message></Error>".encode()]
            return application(environ, start)

        return answer

    def _refusal(self, environ: dict[str, Any]) -> str:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        is_object = path.count("/") > 1
        with self._lock:
            if method == "PUT" and is_object and not self.is_down and self.dies_after_puts is not None:
                self.is_down = self.dies_after_puts <= 0
                self.dies_after_puts -= 1
            if self.is_down:
                return "503 Slow Down"
            if is_object and method in {"PUT", "GET"}:
                (self.puts if method == "PUT" else self.gets).append(path)
        return self._bad_digest(environ)

    def _bad_digest(self, environ: dict[str, Any]) -> str:
        """Check Content-MD5, as S3 does and moto does not."""
        promised = environ.get("HTTP_CONTENT_MD5")
        if not promised:
            return ""
        import io  # noqa: PLC0415

        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        arrived = body[:-1] + b"?" if self.garbles else body
        environ["wsgi.input"] = io.BytesIO(arrived)
        found = base64.b64encode(hashlib.md5(arrived, usedforsecurity=False).digest()).decode()
        return "" if found == promised else "400 BadDigest"


@contextmanager
def running_object_server() -> Iterator[ObjectServer]:
    """Run the server in threads of this process; every process that we start finds its keys in variables."""
    from moto.server import (  # type: ignore[attr-defined]  # noqa: PLC0415 - loads a second
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415

    class Silent(WSGIRequestHandler):
        def log_request(self, *_: Any) -> None:
            """Keep the log for the tests."""

    os.environ.update(KEYS)
    server = ObjectServer()
    application = server.wrapped(DomainDispatcherApplication(create_backend_app))
    http = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Silent)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
        for name in KEYS:
            os.environ.pop(name, None)
