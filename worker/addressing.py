"""From names and AE titles in rows to addresses, by the settings in force."""

from lungnode.errors import UnusableError
from lungnode.settings import (
    Destination,
    DicomDestination,
    Peer,
    SenderDestination,
    Settings,
)


def destination_named(settings: Settings, name: str) -> Destination:
    """Return a destination.

    Raises:
        UnusableError: The settings name none like it.
    """
    for destination in settings.destinations:
        if destination.name == name:
            return destination
    raise UnusableError(f"The settings name no destination {name!r} any more.")


def return_address(
    settings: Settings, destination: SenderDestination, ae_title: str, address: str
) -> DicomDestination:
    """Return where results of a study go back to that `ae_title` at `address` sent.

    Raises:
        UnusableError: The settings do not tell where that is.
    """
    peers = [peer for peer in settings.peers if peer.ae_title == ae_title]
    if len(peers) > 1:  # scanners of one make may share an AE title
        peers = [peer for peer in peers if peer.host == address]
    if len(peers) == 1:
        return destination.at(peers[0])
    found = "more than one entry" if peers else "no entry"
    raise UnusableError(
        f"Destination {destination.name} returns results to the sender, and [[peers]] has {found} for "
        f"AE title {ae_title or 'unknown'} at {address or 'an unknown address'}."
    )


def peer_titled(settings: Settings, ae_title: str, address: str) -> Peer:
    """Return the peer or destination with an AE title; of several the one at the address.

    Raises:
        UnusableError: The settings do not tell where it is.
    """
    destinations = [each for each in settings.destinations if isinstance(each, DicomDestination)]
    named = [each for each in (*settings.peers, *destinations) if each.ae_title == ae_title]
    here = [each for each in named if each.host == address]
    places = {(each.host, each.port) for each in here or named}
    if len(places) == 1:
        return (here or named)[0]
    found = "more than one entry" if places else "no entry"
    raise UnusableError(
        f"[[peers]] has {found} for AE title {ae_title or 'unknown'} at {address or 'an unknown address'}."
    )
