"""Who may associate: called AE title, calling AE title, address; one function, one rejection each."""

from ipaddress import IPv6Address, ip_address

from daemon.receiver.associate import APPLICATION_CONTEXT_NAME, AssociateRequest
from daemon.receiver.pdu import Rejection
from lungnode.settings import ReceiverSettings


def refuse(request: AssociateRequest, address: str, settings: ReceiverSettings) -> Rejection | None:
    """Return why this request is rejected, or None.

    Source: PS3.8 Table 9-21 for the reasons.
    """
    if not request.version_supported:
        return Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return Rejection.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED
    if not _is_called_right(request.called_ae_title, settings):
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    if settings.calling_ae_titles and request.calling_ae_title not in settings.calling_ae_titles:
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    if not request.contexts or not _is_welcome(address, settings):
        return Rejection.NO_REASON_GIVEN
    return None


def _is_called_right(ae_title: str, settings: ReceiverSettings) -> bool:
    if settings.any_called_ae_title:
        return True
    return ae_title == settings.ae_title or ae_title in settings.called_ae_titles


def _is_welcome(address: str, settings: ReceiverSettings) -> bool:
    if not settings.networks:
        return True
    peer = ip_address(address.partition("%")[0])  # a link-local address carries its interface
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return any(peer in network for network in settings.networks)
