"""One attempt at one delivery: to its destination, with what must not change any more written down before."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydicom import dcmread

from db.models import Delivery
from db.session import transaction
from db.work import Claim, note
from lungnode.errors import LungnodeError, UnusableError
from lungnode.settings import FhirDestination, Hl7Destination, SenderDestination, Settings
from lungnode.store import StoreAwayError
from worker.addressing import destination_named, return_address
from worker.carriers.line import Addressed, Carrier, Line
from worker.hold import Node, Stopped, kept
from worker.load import Load, read_load
from worker.messages.compose import compose_message
from worker.parcel import Parcel
from worker.rejections import ensure_note


@dataclass(frozen=True)
class End:
    """How an attempt ended: how far it came, and why no farther."""

    parcel: Parcel
    reason: str = ""
    advice: str = ""
    told: str = ""  # the reason without what a peer said: it may name a patient
    is_final: bool = False
    waits: bool = False  # the attempt does not count: nobody could have sent anything


def attempt(node: Node, held: Claim, load: Load, line: Line) -> End:
    """Send what there is to send, as far as it goes; no error leaves this."""
    settings, parcel = node.settings, load.parcel
    try:
        if ensure_note(node, held, parcel.group):
            load = _read_again(node, held)
            parcel = load.parcel
        node.outputs.fetch(load.files)
        destination = _destination(settings, load)
        with kept(node, held, settings.delivery.lease_s) as lost:
            if isinstance(destination, FhirDestination | Hl7Destination):
                parcel = _composed(node, held, load, destination)
            carrier = line.to(destination, settings.receiver.ae_title, load.proposal)
            parcel = _negotiated(node, held, parcel, carrier)
            for further in _sent(parcel, carrier, lambda: node.stopping() or lost.is_set()):
                parcel = further  # kept, whatever ends the loop
    except LungnodeError as error:
        kind = {"is_final": isinstance(error, UnusableError), "waits": isinstance(error, StoreAwayError)}
        return End(parcel, str(error), error.advice, str(error), **kind)
    except OSError as error:
        return End(parcel, str(error), "See why the file cannot be read.", str(error))
    except Stopped:
        return End(parcel)
    except Exception as error:  # noqa: BLE001 - one delivery must never stop the others; its row tells the story
        reason = f"{type(error).__name__}, {error}"
        return End(parcel, reason, "It is an error of Lungnode: report it.", type(error).__name__)
    return End(parcel, parcel.trouble(), parcel.advice, parcel.trouble(quote=False), parcel.settled)


def _read_again(node: Node, held: Claim) -> Load:
    with transaction(node.engine) as session:
        return read_load(session, node, session.get_one(Delivery, held.row_id))


def _negotiated(node: Node, held: Claim, parcel: Parcel, carrier: Carrier) -> Parcel:
    """Fix the class of a report in its row before its first byte: another class is another object.

    Raises:
        Stopped: The row was taken back.
    """
    chosen = parcel.chosen(_accepted_group(carrier, parcel))
    if not parcel.negotiated:
        _settle(node, held, {"group": chosen.group, "negotiated_at": node.clock()})
    return chosen


def _composed(node: Node, held: Claim, load: Load, destination: FhirDestination | Hl7Destination) -> Parcel:
    """Compose a message and keep it in its row before its first byte: every attempt sends the same.

    Raises:
        UnusableError: There is no report to compose it from.
        Stopped: The row was taken back.
    """
    if load.parcel.negotiated:
        return load.parcel
    if load.report is None:
        raise UnusableError("The analysis has no report to make a message of, or its files are deleted.")
    (item,) = load.parcel.items
    text = compose_message(dcmread(load.report), destination, item.identifier, load.withdrawn)
    _settle(node, held, {"message": text, "negotiated_at": node.clock()})
    return load.parcel.with_item(replace(item, text=text))


def _settle(node: Node, held: Claim, values: dict[str, Any]) -> None:
    with transaction(node.engine) as session:
        if not note(session, held, values):
            raise Stopped


def _accepted_group(carrier: Carrier, parcel: Parcel) -> str:
    for group, items in parcel.choices.items():
        if all(carrier.accepts(item.sop_class_uid) for item in items):
            return group
    return parcel.group


def _sent(parcel: Parcel, carrier: Carrier, stopping: Callable[[], bool]) -> Iterator[Parcel]:
    """Send what is left to send; give the parcel after each answer.

    Raises:
        UnavailableError: There is no way to the peer any more.
        UnusableError: The peer will never take anything.
        OSError: A file cannot be read.
    """
    for item in parcel.items:
        if item.settled:
            continue
        if stopping():
            return
        answer = carrier.send(item)
        parcel = parcel.with_item(item.answered(answer))
        yield parcel
        if not answer.status:
            return


def _destination(settings: Settings, load: Load) -> Addressed:
    if not load.parcel.choices:
        raise UnusableError(f"The analysis has no output {load.parcel.group!r}, or its files are deleted.")
    destination = destination_named(settings, load.destination)
    if isinstance(destination, SenderDestination):
        return return_address(settings, destination, *load.sender)
    return destination


def place_of(settings: Settings, load: Load) -> Addressed | None:
    """Return where a delivery goes; None where the settings do not tell."""
    try:
        return _destination(settings, load)
    except UnusableError:
        return None
