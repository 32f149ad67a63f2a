"""Who may associate: called AE title, calling AE title, its certificate, address; one rejection each."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from daemon.receiver.associate import APPLICATION_CONTEXT_NAME, AssociateRequest
from daemon.receiver.pdu import Rejection
from lungnode.certificates import bears
from lungnode.settings import Network, ReceiverSettings


@dataclass(frozen=True)
class Caller:
    """Where a request comes from."""

    address: str
    tls_version: str = ""  # empty: no TLS
    certificate: bytes | None = None  # DER, verified; None: none was shown

    def __str__(self) -> str:
        return f"{self.address}, {self.tls_version}" if self.tls_version else self.address


def refuse(request: AssociateRequest, caller: Caller, settings: ReceiverSettings) -> Rejection | None:
    """Return why this request is rejected, or None.

    Source: PS3.8 Table 9-21 for the reasons.
    """
    if not request.version_supported:
        return Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return Rejection.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED
    if not _is_called_right(request.called_ae_title, settings):
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    if not request.contexts or not _is_welcome(caller.address, settings):
        return Rejection.NO_REASON_GIVEN
    return _refuse_calling(request.calling_ae_title, caller.certificate, settings)


def _refuse_calling(ae_title: str, certificate: bytes | None, settings: ReceiverSettings) -> Rejection | None:
    if settings.calling_ae_titles and ae_title not in settings.calling_ae_titles:
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    subject = settings.tls.subjects.get(ae_title)
    if subject is not None and (certificate is None or not bears(certificate, subject)):
        return Rejection.CERTIFICATE_OF_ANOTHER
    return None


def _is_called_right(ae_title: str, settings: ReceiverSettings) -> bool:
    if settings.any_called_ae_title:
        return True
    return ae_title == settings.ae_title or ae_title in settings.called_ae_titles


def _is_welcome(address: str, settings: ReceiverSettings) -> bool:
    return not settings.networks or is_within(address, settings.networks)


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Tell whether an address belongs to one of the networks."""
    peer = ip_address(address.partition("%")[0])  # a link-local address carries its interface
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)
