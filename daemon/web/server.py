"""The web server: uvicorn on a socket of ours, until SIGTERM."""

import json
import logging
import os
import signal
import socket
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn

from daemon.web.app import make_app
from daemon.web.node import WebNode
from db import audit
from db.session import open_engine, upgrade
from lungnode.errors import SettingsError, UnavailableError
from lungnode.pulse import Pulse
from lungnode.settings import Settings

_LOG = logging.getLogger(__name__)
ADDRESS_FILE: Final = "web.json"  # {"host", "port", "pid"} in the data folder, while we listen
_DRAIN_S: Final = 5  # for answers that are under way
_BACKLOG: Final = 256


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        UnavailableError: The port is taken or cannot be opened, or the database is away.
        SettingsError: The certificate cannot be used.
    """
    engine = open_engine(settings.database)
    upgrade(engine)
    server = _Server(_config(settings, make_app(WebNode(settings, engine))), Pulse(settings.data, "web"))
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn sends itself the signal again when it has stopped, which would end us before we tidied up.
        signal.signal(number, lambda *_: None)
    address_file = settings.data / ADDRESS_FILE
    with _listen(settings) as listener:
        _announce(address_file, listener, "https" if settings.web.certificate else "http")
        tell = partial(audit.tell_activity, engine, program="web", ae_title="")
        tell("application started", at=datetime.now(UTC))
        try:
            server.run(sockets=[listener])
        finally:
            _withdraw(address_file)
            server.pulse.end()
            tell("application stopped", at=datetime.now(UTC))


class _Server(uvicorn.Server):
    """Gives a sign of life while its loop turns."""

    def __init__(self, config: uvicorn.Config, pulse: Pulse) -> None:
        super().__init__(config)
        self.pulse = pulse

    async def on_tick(self, counter: int) -> bool:
        """Do what is to be done ten times a second."""
        self.pulse.beat()
        return await super().on_tick(counter)


def _config(settings: Settings, app: object) -> uvicorn.Config:
    web = settings.web
    config = uvicorn.Config(
        app,  # type: ignore[arg-type] # FastAPI's, by way of object to keep this module free of it
        log_config=None,
        access_log=False,  # addresses hold patients' names
        server_header=False,
        proxy_headers=bool(web.trusted_proxies),
        forwarded_allow_ips=list(web.trusted_proxies),
        timeout_graceful_shutdown=_DRAIN_S,
        ssl_certfile=web.certificate,
        ssl_keyfile=web.private_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"The certificate {web.certificate} cannot be used: {error}.") from error
    return config


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.web.host, settings.web.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UnavailableError(
            f"The web cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}. "
            "Stop what listens there, or set web.port."
        ) from error


def _announce(path: Path, listener: socket.socket, scheme: str) -> None:
    host, port = listener.getsockname()[:2]
    _LOG.info("web listens on %s://%s:%d/", scheme, f"[{host}]" if ":" in host else host, port)
    part = path.with_suffix(".json.part")
    try:
        part.write_text(json.dumps({"host": host, "port": port, "pid": os.getpid()}))
        part.rename(path)
    except OSError as error:
        _LOG.error("%s cannot be written: %s", path, error.strerror)


def _withdraw(path: Path) -> None:
    try:
        if json.loads(path.read_text())["pid"] == os.getpid():
            path.unlink()
    except (OSError, ValueError, KeyError):
        return  # another web's, or never written
