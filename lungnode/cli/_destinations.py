"""What `lungnode check` says of destinations: each kind is asked in its own way, and nothing is sent."""

from collections.abc import Iterator
from http import HTTPStatus

from lungnode.cli._check import Check, Status
from lungnode.cli._confirmation import check_confirmation
from lungnode.errors import LungnodeError
from lungnode.scu.association import echo
from lungnode.settings import (
    Destination,
    DicomDestination,
    FhirDestination,
    Hl7Destination,
    SenderDestination,
    Settings,
    StowDestination,
    WebDestination,
)

NO_DESTINATION = "Add a [[destinations]] table with name, ae_title, host and port to the settings file."


def check_destinations(settings: Settings) -> Iterator[Check]:
    """Ask all."""
    for destination in settings.destinations:
        check = _check(settings, destination)
        yield check
        if check.status is Status.OK and isinstance(destination, DicomDestination):
            yield from check_confirmation(settings, destination)
    if not settings.destinations:
        yield Check("destinations", Status.WARNING, "Results go nowhere.", NO_DESTINATION)


def check_echo(name: str, peer: DicomDestination, calling_ae_title: str, mend: str) -> Check:
    """Ask with a C-ECHO."""
    try:
        echo(peer, calling_ae_title)
    except LungnodeError as error:
        return Check(name, Status.WRONG, str(error), mend)
    return Check(name, Status.OK, f"{peer.ae_title} at {peer.host} port {peer.port} answers a C-ECHO.")


def _check(settings: Settings, destination: Destination) -> Check:
    name = f"destination {destination.name}"
    match destination:
        case DicomDestination():
            calling = destination.calling_ae_title or settings.receiver.ae_title
            mend = f"Check address and AE titles on both sides; the peer must know us as {calling}."
            return check_echo(name, destination, calling, mend)
        case SenderDestination():
            return _senders(settings, name)
        case StowDestination():
            return _web(name, destination, f"{destination.url.rstrip('/')}/studies?limit=1")
        case FhirDestination():
            return _web(name, destination, f"{destination.url.rstrip('/')}/metadata")
        case Hl7Destination():
            return _connection(name, destination)


def _connection(name: str, destination: Hl7Destination) -> Check:
    from worker.carriers.mllp import connected  # noqa: PLC0415 - when a destination is one

    try:
        with connected(destination):
            pass
    except LungnodeError as error:
        return Check(name, Status.WRONG, str(error), error.advice)
    return Check(name, Status.OK, f"{destination.host} port {destination.port} takes connections.")


def _senders(settings: Settings, name: str) -> Check:
    if not settings.peers:
        mend = "Add a [[peers]] table with name, ae_title, host and port for each sender."
        return Check(name, Status.WRONG, "Results go back to the sender, and no peer has an address.", mend)
    known = ", ".join(sorted({peer.ae_title for peer in settings.peers}))
    return Check(name, Status.OK, f"Results go back to the sender if it is one of: {known}.")


def _web(name: str, destination: WebDestination, url: str) -> Check:
    from worker.carriers.web import web_session  # noqa: PLC0415 - when a destination is one

    try:
        with web_session(destination) as session:
            code = session.get(url).status_code
    except LungnodeError as error:
        return Check(name, Status.WRONG, str(error), error.advice)
    said = f"{url} answers HTTP {code}."
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Check(name, Status.WRONG, said, "Correct the token or the password, or let the peer allow it.")
    if code >= HTTPStatus.BAD_REQUEST:
        return Check(name, Status.WARNING, said, "It may take results all the same; the first one will tell.")
    if destination.has_secret and destination.url.startswith("http:"):
        mend = "Use https: whoever listens can read the secret."
        return Check(name, Status.WARNING, f"{said} We sign in to it without encryption.", mend)
    return Check(name, Status.OK, said)
