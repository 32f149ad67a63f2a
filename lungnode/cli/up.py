"""Commands: up."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Final

import typer

from lungnode.cli import settings_of
from lungnode.pulse import Pulse
from lungnode.settings import Settings, WebSettings
from lungnode.supervisor import Role, Supervisor, sole_owner


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(up)


def up(context: typer.Context) -> None:
    """Run the whole node on this machine: receiver, clerk, workers, web, embedded broker and database."""
    from db.session import open_engine, upgrade  # noqa: PLC0415 - see the module of the command line

    settings = settings_of(context)
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with sole_owner(settings.data):
        os.environ["LUNGNODE_DATA"] = str(settings.data.absolute())  # what our children read
        address = settings.data / "receiver.json"
        address.unlink(missing_ok=True)
        engine = open_engine(settings.database)
        upgrade(engine)
        engine.dispose()
        pulse = Pulse(settings.data, "up")
        supervisor = Supervisor(_roles(settings))
        announce = _announcer(settings, address)

        def each_look() -> None:
            announce()
            pulse.beat(waiting=supervisor.waiting())

        supervisor.run(stopping, each_look)
        pulse.end()
    typer.echo("Lungnode has stopped.")


_PROGRAMS: Final = (
    ("receive",),
    ("clerk",),
    ("worker", "--queue", "analysis"),
    ("worker", "--queue", "delivery"),
)


def _roles(settings: Settings) -> list[Role]:
    itself = (sys.executable, "-m", "lungnode")
    programs = (*_PROGRAMS, ("web",)) if settings.web.enabled else _PROGRAMS
    roles = [Role(" ".join(arguments), (*itself, *arguments)) for arguments in programs]
    if settings.broker_url is not None:
        return roles
    from lungnode.broker import broker_command, prepare_socket  # noqa: PLC0415 - only where it is embedded

    prepare_socket(settings.broker_socket)
    return [Role("broker", broker_command(settings.broker_socket), serves_others=True), *roles]


def _announcer(settings: Settings, address: Path) -> Callable[[], None]:
    """Return a function that says once, when the receiver is there, where it listens."""
    announced = False

    def announce() -> None:
        nonlocal announced
        if announced or not address.is_file():
            return
        announced = True
        ports = json.loads(address.read_text())
        named = {"port": "port {}", "tls_port": "port {} (TLS)"}
        where = " and ".join(text.format(ports[name]) for name, text in named.items() if name in ports)
        receiver = settings.receiver
        names = ", ".join(destination.name for destination in settings.destinations)
        typer.echo(
            f"Lungnode receives as {receiver.ae_title} on {receiver.host} {where} and keeps its data in "
            f"{settings.data}.\nResults go to {names or 'nowhere: the settings name no destination'}.\n"
            f"{_web(settings.web)}"
            "For research use only, not for diagnosis. Ctrl-C stops it."
        )

    return announce


def _web(web: WebSettings) -> str:
    """Say where the web is, as a line."""
    if not web.enabled:
        return ""
    scheme = "https" if web.certificate else "http"
    return (
        f"The web is at {scheme}://{web.host}:{web.port}/; `lungnode users add NAME --role admin` makes the "
        "first account.\n"
    )
