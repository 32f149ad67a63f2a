"""From the name of a destination in a delivery's row to its address, by the settings in force."""

from lungnode.errors import UnusableError
from lungnode.settings import Destination, DicomDestination, SenderDestination, Settings


def destination_named(settings: Settings, name: str) -> Destination:
    """Return a destination.

    Raises:
        UnusableError: The settings name none like it.
    """
    for destination in settings.destinations:
        if destination.name == name:
            return destination
    raise UnusableError(f"The settings name no destination {name!r} any more.")


def addressed(settings: Settings, destination: Destination, ae_title: str, address: str) -> DicomDestination:
    """Return the destination with its address; `ae_title` at `address` sent the study.

    Raises:
        UnusableError: Results go back to the sender, and the settings do not tell where that is.
    """
    if not isinstance(destination, SenderDestination):
        return destination
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
