"""The way to a destination, opened when it is needed and kept for whatever else goes there."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol, Self

from lungnode.settings import DicomDestination, FhirDestination, Hl7Destination, StowDestination
from worker.answers import Answer
from worker.carriers.dimse import storing
from worker.carriers.fhir import resting
from worker.carriers.mllp import messaging
from worker.carriers.stow import stowing
from worker.parcel import Item

Proposal = Callable[[], dict[str, set[str]]]
Addressed = DicomDestination | StowDestination | FhirDestination | Hl7Destination


class Carrier(Protocol):
    """An open way to a destination."""

    @property
    def is_there(self) -> bool:
        """Whether it is still open."""

    def accepts(self, sop_class_uid: str) -> bool:
        """Tell whether instances of a class may be sent."""

    def send(self, item: Item) -> Answer:
        """Send an instance or a message, and return what the peer said.

        Raises:
            OSError: Its file cannot be read.
        """


class Line:
    """A carrier that is made when it is needed."""

    def __init__(self, pace: int) -> None:
        """Be closed. Once open, at least `pace` bytes a second are to be taken."""
        self._pace = pace
        self._open = ExitStack()
        self._carrier: Carrier | None = None

    def __enter__(self) -> Self:
        """Still be closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what is open."""
        self._open.close()

    def to(self, destination: Addressed, ae_title: str, proposed: Proposal) -> Carrier:
        """Return the way to the destination; it is opened if there is none, or none any more.

        Args:
            destination: Whom to send to.
            ae_title: Ours, unless the destination has another one for us.
            proposed: Gives the transfer syntaxes of the instances to send, by SOP class.

        Raises:
            UnavailableError: There is no way for now.
            UnusableError: The peer will never let us in.
        """
        if self._carrier is None or not self._carrier.is_there:
            self._open.close()
            self._carrier = self._open.enter_context(self._opened(destination, ae_title, proposed))
        return self._carrier

    def _opened(
        self, destination: Addressed, ae_title: str, proposed: Proposal
    ) -> AbstractContextManager[Carrier]:
        match destination:
            case DicomDestination():
                return storing(destination, destination.calling_ae_title or ae_title, proposed(), self._pace)
            case StowDestination():
                return stowing(destination, self._pace)
            case FhirDestination():
                return resting(destination, self._pace)
            case Hl7Destination():
                return messaging(destination)
