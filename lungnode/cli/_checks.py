"""The checks of `lungnode check`: each says what is wrong and how to mend it."""

import fcntl
import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from db.accounts import list_accounts
from db.registry import model_in_use, place_of, shadow_model
from db.session import is_current, open_engine, transaction
from lungnode.broker import ping
from lungnode.cli._audit_checks import check_syslog
from lungnode.cli._certificates import check_certificates
from lungnode.cli._check import Check, Status
from lungnode.cli._destinations import NO_DESTINATION, check_destinations, check_echo
from lungnode.cli._disk_checks import check_backlog, check_disks, check_kept, existing
from lungnode.cli._fast import chosen
from lungnode.cli._programs import check_programs, running_programs
from lungnode.cli._source_checks import check_sources
from lungnode.cli._store_checks import check_store
from lungnode.errors import LungnodeError, SettingsError
from lungnode.model_folder import SHIPPED_MODEL, Place, verified
from lungnode.rules import keywords_of
from lungnode.settings import DicomDestination, PeerTls, ReceiverSettings, Settings

_LOCK_WAIT_S = 2.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
T = TypeVar("T")


def run_checks(settings: Settings) -> Iterator[Check]:
    """Check all parts, the quick ones first."""
    running = _is_running(settings.data)
    receives = running or any(name.startswith("receive-") for name in running_programs(settings.data))
    yield _settings(settings)
    yield _folder(settings)
    yield from check_disks(settings)
    yield from check_store(settings)
    yield from check_backlog(settings)
    yield _database(settings)
    yield from check_kept(settings)
    yield _web(settings)
    yield _broker(settings, running=running)
    model = _model(settings)
    yield model
    if model.status is not Status.WRONG:
        yield _runtime(settings)
    yield from _shadow(settings)
    yield from check_certificates(settings)
    yield from check_syslog(settings)
    yield _receiver(settings, running=receives)
    yield from check_programs(settings.data)
    yield from check_destinations(settings)
    yield from check_sources(settings)


def _settings(settings: Settings) -> Check:
    where = os.environ.get("LUNGNODE_CONFIG") or "no file, defaults and variables"
    names = [destination.name for destination in settings.destinations]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        return Check("settings", Status.WRONG, f"Destination {twice[0]!r} is named twice.", "Rename one.")
    for rule in settings.rules:
        for name in set(rule.destinations or ()) - set(names):
            message = f"Rule {rule.name} sends to {name!r}, which is no destination."
            mend = f"The destinations are: {', '.join(names)}." if names else NO_DESTINATION
            return Check("settings", Status.WRONG, message, mend)
    try:
        keywords_of(settings.rules)
    except SettingsError as error:
        return Check(
            "settings", Status.WRONG, str(error), "Use a keyword of PS3.6, such as StudyDescription."
        )
    return Check("settings", Status.OK, f"Read from {where}; {len(settings.rules)} rules.")


def _folder(settings: Settings) -> Check:
    mend = "Name a folder that this user may write, with --data or LUNGNODE_DATA."
    for folder in (settings.data, settings.spool, settings.archive, settings.outputs):
        if not os.access(existing(folder), os.W_OK | os.X_OK):
            return Check("data folder", Status.WRONG, f"{existing(folder)} cannot be written.", mend)
    return Check("data folder", Status.OK, f"{settings.data} can be written.")


def _database(settings: Settings) -> Check:
    if settings.database_url is None and not (settings.data / "lungnode.sqlite3").exists():
        return Check("database", Status.OK, "None yet; `lungnode up` makes it.")
    engine = open_engine(settings.database, lock_wait_s=_LOCK_WAIT_S)
    try:
        if is_current(engine):
            return Check("database", Status.OK, f"{engine.url.render_as_string()} answers and is up to date.")
        message = f"{engine.url.render_as_string()} has tables of another version."
        return Check("database", Status.WRONG, message, "Run `lungnode db upgrade`.")
    except LungnodeError as error:
        mend = "Start the database, or correct database_url."
        if engine.dialect.name == "sqlite":
            mend = "Let only Lungnode use the file, and see that this user may write it and its folder."
        return Check("database", Status.WRONG, str(error), mend)
    finally:
        engine.dispose()


def _broker(settings: Settings, *, running: bool) -> Check:
    if settings.broker_url is None and not running:
        return Check("broker", Status.OK, "Embedded; `lungnode up` starts it.")
    try:
        ping(settings.broker)
    except LungnodeError as error:
        mend = "Start it, or correct broker_url; until then work waits in the database."
        return Check("broker", Status.WRONG, str(error), mend)
    return Check("broker", Status.OK, "It answers.")


def _model(settings: Settings) -> Check:
    place = _registered(settings, model_in_use) or Place(settings.analysis.model or SHIPPED_MODEL)
    try:
        info = verified(place)
    except LungnodeError as error:
        mend = "Correct analysis.model, or reinstall Lungnode where it is the model that came with it."
        if place.digest:
            mend = "Bring its folder back, or run `lungnode models rollback`; workers keep the one they have."
        return Check("model", Status.WRONG, str(error), mend)
    why = "promoted" if place.digest else "pinned by analysis.model" if settings.analysis.model else "shipped"
    return Check("model", Status.OK, f"{info.name} {info.version}, SHA-256 {info.digest[:16]}…, {why}.")


def _runtime(settings: Settings) -> Check:
    """Say what would run the model; a worker also proves, when it loads, that it computes as it should."""
    place = _registered(settings, model_in_use) or Place(settings.analysis.model or SHIPPED_MODEL)
    _, choice = chosen(place.folder, settings)
    told = f"{choice.name}. {choice.reason}"
    if choice.warning:
        return Check(
            "runtime", Status.WARNING, f"{told} {choice.warning}", "docs/operations.md tells of runtimes."
        )
    return Check("runtime", Status.OK, told)


def _shadow(settings: Settings) -> Iterator[Check]:
    """Check the model in the shadow, if there is one."""
    place = _registered(settings, _shadow_place)
    if place is None:
        return
    try:
        info = verified(place)
    except LungnodeError as error:
        mend = (
            "Bring its folder back, or run `lungnode models shadow --off`; studies are analysed without it."
        )
        yield Check("shadow model", Status.WARNING, str(error), mend)
    else:
        yield Check("shadow model", Status.OK, f"{info.name} {info.version}, SHA-256 {info.digest[:16]}….")


def _shadow_place(session: Session, settings: Settings) -> Place | None:
    row = shadow_model(session)
    return place_of(row, settings) if row else None


def _registered(settings: Settings, look: Callable[[Session, Settings], T | None]) -> T | None:
    """Look into the registry; what is wrong with the database itself has its own check."""
    if settings.database_url is None and not (settings.data / "lungnode.sqlite3").exists():
        return None
    engine = open_engine(settings.database, lock_wait_s=_LOCK_WAIT_S)
    try:
        if not is_current(engine):
            return None
        with transaction(engine) as session:
            return look(session, settings)
    except LungnodeError:
        return None
    finally:
        engine.dispose()


def _web(settings: Settings) -> Check:
    web = settings.web
    if not web.enabled:
        return Check("web", Status.OK, "It is not a part of `up` (web.enabled).")
    address = f"{'https' if web.certificate else 'http'}://{web.host}:{web.port}/"
    is_open = web.host not in _LOOPBACK and web.certificate is None and not web.trusted_proxies
    if is_open:
        mend = (
            "Set web.certificate and web.private_key, or web.trusted_proxies for a proxy with TLS before it."
        )
        return Check(
            "web", Status.WARNING, f"{address}: passwords would cross the network unencrypted.", mend
        )
    if _registered(settings, _has_accounts) is None:
        return Check(
            "web", Status.OK, f"{address}; lungnode users add NAME --role admin makes the first account."
        )
    return Check("web", Status.OK, address)


def _has_accounts(session: Session, _settings: Settings) -> bool | None:
    return True if list_accounts(session) else None


def _receiver(settings: Settings, *, running: bool) -> Check:
    own = settings.receiver
    if not running:
        return _ports_are_free(own)
    try:
        address = json.loads((settings.data / "receiver.json").read_text())
        port = int(address["port"] if "port" in address else address["tls_port"])
    except (OSError, ValueError, KeyError):
        mend = "Look into the node's log for what the receiver says."
        return Check("receiver", Status.WRONG, "The node runs and its receiver does not.", mend)
    host = "127.0.0.1" if own.host in ("0.0.0.0", "::", "") else own.host  # noqa: S104 - compared, not bound
    tls = None
    if "port" not in address:
        tls = PeerTls(verify="none", certificate=own.tls.certificate, private_key=own.tls.private_key)
    itself = DicomDestination(
        name="itself", ae_title=own.ae_title, host=host, port=port, timeout_s=5, tls=tls
    )
    mend = "Allow our own AE title, address and certificate to look by itself."
    return check_echo("receiver", itself, own.ae_title, mend)


def _ports_are_free(own: ReceiverSettings) -> Check:
    ports = [] if own.tls.only else [own.port]
    ports += [own.tls.port] if own.tls.certificate else []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((own.host, port))
            except OSError as error:
                mend = "Stop what listens there, or set another port; ports below 1024 need privileges."
                return Check("receiver", Status.WRONG, f"{own.host} port {port}: {error.strerror}.", mend)
    named = " and ".join(map(str, ports))
    return Check("receiver", Status.OK, f"{own.host} port {named} can be opened; the node does not run.")


def _is_running(data: Path) -> bool:
    try:
        with (data / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
