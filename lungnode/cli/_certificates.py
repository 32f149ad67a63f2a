"""The check of our own certificates: whether they can be used, and until when."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lungnode.certificates import SOON, expires_at
from lungnode.cli._check import Check, Status
from lungnode.errors import UnavailableError
from lungnode.settings import PeerTls, ReceiverTls, Settings
from lungnode.tls import client_context, server_context

_RENEW: Final = (
    "Renew it; the receiver reads the new files by itself, and every new association to a peer does."
)
_CORRECT: Final = "Correct the files that the settings name, or let this user read them."


def check_certificates(settings: Settings, now: datetime | None = None) -> Iterator[Check]:
    """Check each certificate that we show, once."""
    now = now or datetime.now(UTC)
    if settings.receiver.tls.certificate is not None:
        yield _check("certificate of the receiver", settings.receiver.tls, now)
    if settings.web.certificate is not None:
        web = PeerTls(certificate=settings.web.certificate, private_key=settings.web.private_key)
        yield _check("certificate of the web", web, now)
    towards = [(peer.name, getattr(peer, "tls", None)) for peer in (*settings.peers, *settings.destinations)]
    seen: set[Path | None] = {None}
    for name, tls in (*towards, ("the syslog server", settings.audit.syslog.tls)):
        if tls is not None and tls.certificate not in seen:
            seen.add(tls.certificate)
            yield _check(f"certificate towards {name}", tls, now)


def _check(name: str, tls: ReceiverTls | PeerTls, now: datetime) -> Check:
    try:
        server_context(tls) if isinstance(tls, ReceiverTls) else client_context(tls)
        end = expires_at(tls.certificate or Path())
    except UnavailableError as error:
        return Check(name, Status.WRONG, str(error), _CORRECT)
    day = f"{tls.certificate}, until {end:%Y-%m-%d}"
    if end <= now:
        return Check(name, Status.WRONG, f"{day}: it has expired, and peers refuse it.", _RENEW)
    if end - now < SOON:
        return Check(name, Status.WARNING, f"{day}: {(end - now).days} days are left.", _RENEW)
    return Check(name, Status.OK, f"{day}.")
