"""The check of how a destination can confirm that it keeps what it stored."""

from collections.abc import Iterator

from pynetdicom import build_context

from lungnode.cli._check import Check, Status
from lungnode.commitment import PUSH_MODEL
from lungnode.errors import LungnodeError, UnusableError
from lungnode.scu.association import associated
from lungnode.scu.find import FIND_MODELS
from lungnode.settings import DicomDestination, Settings


def check_confirmation(settings: Settings, destination: DicomDestination) -> Iterator[Check]:
    """Ask a destination which of the ways it offers, and say whether its reports would reach us."""
    if destination.confirm == "none":
        return
    name = f"confirmation {destination.name}"
    calling = destination.calling_ae_title or settings.receiver.ae_title
    model = FIND_MODELS.get(destination.query, FIND_MODELS["study_root"])
    try:
        offered = _offered(destination, calling, (PUSH_MODEL, model))
    except LungnodeError as error:
        yield Check(name, Status.WARNING, str(error), "Look into the peer's log.")
        return
    if PUSH_MODEL in offered and destination.confirm != "query":
        yield _commitment(settings, name, calling)
    elif model in offered and destination.confirm != "commitment":
        yield Check(name, Status.OK, "It is asked by C-FIND.")
    else:
        message = "It offers no way to confirm what it stored; deliveries stay `stored`."
        yield Check(name, Status.WARNING, message, 'Let it offer one, or set its confirm = "none".')


def _commitment(settings: Settings, name: str, calling_ae_title: str) -> Check:
    if not is_called(settings, calling_ae_title):
        message = f"Its reports will call {calling_ae_title}, which our receiver does not accept."
        return Check(name, Status.WARNING, message, "Add it to receiver.called_ae_titles.")
    own = settings.receiver
    place = f"our address and port {own.tls.port if own.tls.only else own.port}"
    message = f"It offers storage commitment. It must know {calling_ae_title} with {place}."
    return Check(name, Status.OK, message)


def _offered(peer: DicomDestination, calling_ae_title: str, classes: tuple[str, ...]) -> set[str]:
    try:
        contexts = [build_context(uid) for uid in classes]
        with associated(peer, calling_ae_title, contexts) as association:
            return {str(context.abstract_syntax) for context in association.accepted_contexts}
    except UnusableError:
        return set()


def is_called(settings: Settings, ae_title: str) -> bool:
    """Tell whether our receiver accepts associations that call it so."""
    own = settings.receiver
    return own.any_called_ae_title or ae_title in (own.ae_title, *own.called_ae_titles)
