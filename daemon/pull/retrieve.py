"""Asks a peer to send what it has: C-MOVE to our own receiver, or C-GET over the same association.

Source: PS3.4 C.4.2 (C-MOVE), C.4.3 (C-GET).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
from pynetdicom import _config, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from daemon.pull.keeping import Keeper
from daemon.receiver.contexts import TRANSFER_SYNTAX_RANKS
from daemon.receiver.spool import AssociationOutcome
from lungnode.errors import LungnodeError, SettingsError, UnavailableError, UnusableError
from lungnode.scu.association import associated, describe
from lungnode.scu.find import identifier_of
from lungnode.settings import Peer, Settings

_PATIENCE: Final = 10  # times the peer's time limit that one retrieval may take
# Source: PS3.4 Table B.5-1 and C.6, SOP Class UIDs of the MOVE and GET services.
MOVE_MODELS: Final = {
    "patient_root": UID("1.2.840.10008.5.1.4.1.2.1.2"),
    "study_root": UID("1.2.840.10008.5.1.4.1.2.2.2"),
}
GET_MODELS: Final = {
    "patient_root": UID("1.2.840.10008.5.1.4.1.2.1.3"),
    "study_root": UID("1.2.840.10008.5.1.4.1.2.2.3"),
}
# What CT series hold; each in every transfer syntax makes 80 of the 128 presentation contexts that there are.
_KEPT_CLASSES: Final = (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
# Source: PS3.4 Tables C.4-2 and C.4-3, Response Status Values, and PS3.7 Annex C.
_PENDING: Final = 0xFF00
_WARNING: Final = 0xB000
_PERMANENT: Final = (0x0122, 0x0124, 0xA801, 0xA900)
_HINTS: Final = {
    0x0122: "It offers no retrieval in this information model.",
    0x0124: "It does not allow us to; its operator may.",
    0xA701: "It has not the resources to look for it.",
    0xA702: "It could not send; a C-MOVE needs our receiver at the address and port that it knows.",
    0xA801: "It does not know us as a destination; enter our AE title, address and port there.",
    0xFE00: "It was cancelled there.",
}


@dataclass(frozen=True)
class Suboperations:
    """How many instances were sent, and how many not."""

    completed: int = 0
    failed: int = 0
    warning: int = 0  # sent, though the peer has something to say about it
    remaining: int = 0

    def __add__(self, other: "Suboperations") -> "Suboperations":
        return Suboperations(
            self.completed + other.completed,
            self.failed + other.failed,
            self.warning + other.warning,
            self.remaining + other.remaining,
        )


Progress = Callable[[Suboperations], None]
_Answers = Iterator[tuple[Dataset, Dataset | None]]


class Retriever:
    """An association over which a peer is asked to send."""

    def __init__(self, peer: Peer, association: Association, ask: Callable[[Dataset], _Answers]) -> None:
        self._peer = peer
        self._association = association
        self._ask = ask

    def fetch(self, level: str, values: Mapping[str, str], progress: Progress) -> Suboperations:
        """Have the peer send what `values` name; each is a unique key of `level` or of one above.

        Raises:
            UnavailableError: It did not, for now.
            UnusableError: It never will as things are.
        """
        deadline = monotonic() + _PATIENCE * self._peer.retrieve_timeout_s
        for answer in self._answers(identifier_of(level, values)):
            status = answer.get("Status")
            if status != _PENDING:
                if status in (0, _WARNING):
                    return _counted(answer)
                raise self._refusal(answer)
            if monotonic() > deadline:
                self._association.abort()
                raise UnavailableError(f"{describe(self._peer)} sends too slowly.")
            progress(_counted(answer))
        raise self._refusal(Dataset())

    def _answers(self, identifier: Dataset) -> Iterator[Dataset]:
        try:
            for status, _ in self._ask(identifier):
                yield status
        except RuntimeError as error:  # between two retrievals
            raise UnavailableError(f"{describe(self._peer)} ended the association.") from error
        except ValueError as error:  # it took the storage classes, and not the service itself
            name = "C-MOVE" if self._peer.retrieve == "move" else "C-GET"
            raise UnusableError(f"{describe(self._peer)} offers no {name}.") from error

    def _refusal(self, answer: Dataset) -> LungnodeError:
        """Say what a final status means. The peer's comment is left out: it may name a patient."""
        status = answer.get("Status")
        if status is None:
            return UnavailableError(f"{describe(self._peer)} did not send in time, or hung up.")
        kind = UnusableError if status in _PERMANENT else UnavailableError
        hint = _HINTS.get(status, "Its log may say why; for a C-MOVE it has to know our address and port.")
        return kind(f"{describe(self._peer)} answered 0x{status:04X} to a retrieval. {hint}")


@contextmanager
def retrieving(peer: Peer, settings: Settings) -> Iterator[Retriever]:
    """Hold an association for retrievals while the block runs.

    What a C-MOVE brings goes to our receiver over associations of the peer's; what a C-GET brings goes into
    the spool from here.

    Raises:
        SettingsError: The settings do not say how the peer may be fetched from.
        UnavailableError: No association for now.
        UnusableError: The peer will never accept it.
    """
    if peer.retrieve == "none" or peer.query == "none":
        raise SettingsError(
            f'{describe(peer)} may not be fetched from: set its retrieve = "move" or "get", and its query.'
        )
    # pynetdicom would write the peer's words, names too, line by line into its log.
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    ae_title = peer.calling_ae_title or settings.receiver.ae_title
    with _moving(peer, ae_title) if peer.retrieve == "move" else _getting(peer, ae_title, settings) as found:
        yield found


@contextmanager
def _moving(peer: Peer, ae_title: str) -> Iterator[Retriever]:
    model = MOVE_MODELS[peer.query]
    with associated(peer, ae_title, [build_context(model)]) as association:
        association.dimse_timeout = peer.retrieve_timeout_s
        yield Retriever(
            peer, association, lambda identifier: association.send_c_move(identifier, ae_title, model)
        )


@contextmanager
def _getting(peer: Peer, ae_title: str, settings: Settings) -> Iterator[Retriever]:
    model = GET_MODELS[peer.query]
    keeper = Keeper(peer, ae_title, settings)
    outcome = AssociationOutcome.LOST
    try:
        with associated(
            peer,
            ae_title,
            [build_context(model), *_storage_contexts()],
            roles=[build_role(uid, scp_role=True) for uid in _KEPT_CLASSES],
            handlers=[(evt.EVT_C_STORE, keeper.on_store)],
        ) as association:
            association.dimse_timeout = peer.retrieve_timeout_s
            yield Retriever(peer, association, lambda identifier: association.send_c_get(identifier, model))
            outcome = AssociationOutcome.RELEASED
    finally:
        keeper.end(outcome)


def _storage_contexts() -> list[PresentationContext]:
    # A peer chooses one transfer syntax for each context: in one of its own, each is kept as it is stored.
    return [build_context(uid, syntax) for uid in _KEPT_CLASSES for syntax in TRANSFER_SYNTAX_RANKS]


def _counted(answer: Dataset) -> Suboperations:
    def count(what: str) -> int:
        value: Any = answer.get(f"NumberOf{what}Suboperations")
        return value if isinstance(value, int) else 0

    return Suboperations(count("Completed"), count("Failed"), count("Warning"), count("Remaining"))
