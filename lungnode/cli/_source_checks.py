"""Whether the peers that may be asked about studies answer, and whether what they send can reach us."""

from collections.abc import Iterator
from typing import Final

from lungnode.cli._check import Check, Status
from lungnode.cli._confirmation import is_called
from lungnode.errors import LungnodeError
from lungnode.scu.find import querying
from lungnode.settings import Peer, Settings

# A study that nobody has; asking for it takes every right that asking for another one takes.
_NOBODYS: Final = {"StudyInstanceUID": "2.25.1", "PatientID": "LUNGNODE-CHECK"}


def check_sources(settings: Settings) -> Iterator[Check]:
    """Ask every peer that may be asked."""
    known = (*settings.peers, *settings.destinations)
    sources = [each for each in known if isinstance(each, Peer) and each.query != "none"]
    for source in sources:
        yield _answers(settings, source)
        if source.retrieve == "move":
            yield _destination_of(settings, source)


def _answers(settings: Settings, source: Peer) -> Check:
    name, calling = f"source {source.name}", source.calling_ae_title or settings.receiver.ae_title
    try:
        with querying(source, calling) as query:
            query.studies(_NOBODYS)
    except LungnodeError as error:
        mend = f"Let {calling} query there, or set another query or none; meanwhile quiet periods decide."
        return Check(name, Status.WRONG, str(error), mend)
    return Check(name, Status.OK, f"{source.ae_title} answers a C-FIND.")


def _destination_of(settings: Settings, source: Peer) -> Check:
    called = source.calling_ae_title or settings.receiver.ae_title
    name = f"retrieval from {source.name}"
    if is_called(settings, called):
        return Check(name, Status.OK, f"What it moves to {called} is accepted here.")
    mend = f'Add "{called}" to receiver.called_ae_titles.'
    return Check(name, Status.WRONG, f"It would move to {called}, which our receiver rejects.", mend)
