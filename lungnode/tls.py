"""TLS for associations, both ways: what we speak, whom we believe, and a name for each way to fail.

Source: PS3.15 B.12, BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile, and the stricter B.13.
"""

import ssl
from enum import Enum
from pathlib import Path
from typing import Final

from lungnode.errors import UnavailableError
from lungnode.settings.tls import PeerTls, Profile, ReceiverTls

# TLS 1.2 alone is governed by these lists, as OpenSSL writes them; TLS 1.3 has no weak suites. B.13 also
# names Camellia, which OpenSSL lacks, and CCM for TLS 1.3, which Python's ssl cannot switch on.
# Source: RFC 9325 4.2 for B.12. Security level 2 refuses RSA below 2048 bits, curves below 224 and SHA-1.
_CIPHER_SUITES: Final[dict[Profile, str]] = {
    "bcp195": "ECDHE+AESGCM:!PSK:@SECLEVEL=2",
    "bcp195-modified": "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:!PSK:@SECLEVEL=2",
}


class TlsTrouble(Enum):
    """Why two sides do not come together: what is wrong with the peer, and whether only people mend it."""

    TLS_CERTIFICATE_EXPIRED = ("its certificate has expired", False)
    TLS_CERTIFICATE_NOT_YET_VALID = ("its certificate is not valid yet", False)
    TLS_WRONG_NAME = ("its certificate bears another name", True)
    TLS_UNKNOWN_AUTHORITY = ("its certificate comes from an authority that we do not know", True)
    TLS_WRONG_PURPOSE = ("its certificate is not made for this purpose", True)
    TLS_WEAK_CERTIFICATE = ("its certificate has a weak key or signature", True)
    TLS_BAD_CERTIFICATE = ("its certificate cannot be accepted", True)
    TLS_NO_CERTIFICATE = ("it shows no certificate", True)
    TLS_OURS_REJECTED = ("it does not accept our certificate", True)
    TLS_OURS_MISSING = ("it wants a certificate of ours", True)
    TLS_TOO_OLD = ("it speaks no TLS that is new enough, 1.2 or 1.3", True)
    TLS_NOTHING_IN_COMMON = ("it does not accept our way to speak TLS, or wants a certificate of ours", True)
    TLS_NOT_SPOKEN = ("it does not speak TLS", True)
    TLS_NO_ANSWER = ("it fell silent in the TLS handshake", False)
    TLS_CUT = ("it cut the connection when TLS was spoken, as one does that speaks none", False)
    TLS_BROKEN = ("the TLS connection broke", False)

    @property
    def sentence(self) -> str:
        """What is wrong with the peer."""
        return self.value[0]

    @property
    def lasts(self) -> bool:
        """Whether another attempt with the same settings must fail, too."""
        return self.value[1]


# Source: OpenSSL, include/openssl/x509_vfy.h, X509_V_ERR_...
_BY_VERIFY_CODE: Final = {
    2: TlsTrouble.TLS_UNKNOWN_AUTHORITY,  # UNABLE_TO_GET_ISSUER_CERT
    9: TlsTrouble.TLS_CERTIFICATE_NOT_YET_VALID,
    10: TlsTrouble.TLS_CERTIFICATE_EXPIRED,
    18: TlsTrouble.TLS_UNKNOWN_AUTHORITY,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: TlsTrouble.TLS_UNKNOWN_AUTHORITY,  # SELF_SIGNED_CERT_IN_CHAIN
    20: TlsTrouble.TLS_UNKNOWN_AUTHORITY,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: TlsTrouble.TLS_UNKNOWN_AUTHORITY,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    26: TlsTrouble.TLS_WRONG_PURPOSE,  # INVALID_PURPOSE
    62: TlsTrouble.TLS_WRONG_NAME,  # HOSTNAME_MISMATCH
    64: TlsTrouble.TLS_WRONG_NAME,  # IP_ADDRESS_MISMATCH
    66: TlsTrouble.TLS_WEAK_CERTIFICATE,  # EE_KEY_TOO_SMALL
    67: TlsTrouble.TLS_WEAK_CERTIFICATE,  # CA_KEY_TOO_SMALL
    68: TlsTrouble.TLS_WEAK_CERTIFICATE,  # CA_MD_TOO_WEAK
}
# Source: OpenSSL, include/openssl/sslerr.h, as Python's ssl names them; an alert is the other side's word.
_BY_REASON: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": TlsTrouble.TLS_NO_CERTIFICATE,
    "UNSUPPORTED_PROTOCOL": TlsTrouble.TLS_TOO_OLD,
    "TLSV1_ALERT_PROTOCOL_VERSION": TlsTrouble.TLS_TOO_OLD,
    "NO_SHARED_CIPHER": TlsTrouble.TLS_NOTHING_IN_COMMON,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": TlsTrouble.TLS_NOTHING_IN_COMMON,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": TlsTrouble.TLS_OURS_MISSING,
    "SSLV3_ALERT_BAD_CERTIFICATE": TlsTrouble.TLS_OURS_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": TlsTrouble.TLS_OURS_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": TlsTrouble.TLS_OURS_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": TlsTrouble.TLS_OURS_REJECTED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": TlsTrouble.TLS_OURS_REJECTED,
    "TLSV1_ALERT_ACCESS_DENIED": TlsTrouble.TLS_OURS_REJECTED,
    "TLSV1_ALERT_DECRYPT_ERROR": TlsTrouble.TLS_OURS_REJECTED,
    "TLSV1_ALERT_UNKNOWN_CA": TlsTrouble.TLS_OURS_REJECTED,
    "WRONG_VERSION_NUMBER": TlsTrouble.TLS_NOT_SPOKEN,
    "HTTP_REQUEST": TlsTrouble.TLS_NOT_SPOKEN,
    "HTTPS_PROXY_REQUEST": TlsTrouble.TLS_NOT_SPOKEN,
}


def trouble_of(error: OSError) -> TlsTrouble:
    """Name what went wrong in a handshake, or when what was agreed on was used."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code, TlsTrouble.TLS_BAD_CERTIFICATE)
    if isinstance(error, TimeoutError):
        return TlsTrouble.TLS_NO_ANSWER
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return TlsTrouble.TLS_CUT
    return _BY_REASON.get(error.reason or "", TlsTrouble.TLS_BROKEN)


def server_context(tls: ReceiverTls) -> ssl.SSLContext:
    """Return what incoming connections are encrypted with.

    Raises:
        UnavailableError: A file cannot be read or does not fit.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls.profile)
    # Sessions would be resumed by whichever process is there: none can, and keys that last protect less.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    if tls.authorities is not None:
        is_required = tls.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
        _believe(context, tls.authorities)
    _show(context, tls.certificate, tls.key_file)
    return context


def client_context(tls: PeerTls) -> ssl.SSLContext:
    """Return what a connection to a peer is encrypted with.

    Raises:
        UnavailableError: A file cannot be read or does not fit.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, tls.profile)
    context.check_hostname = tls.verify == "name"
    context.verify_mode = ssl.CERT_NONE if tls.verify == "none" else ssl.CERT_REQUIRED
    if tls.authorities is not None:
        _believe(context, tls.authorities)
    elif tls.verify != "none":
        context.load_default_certs()
    _show(context, tls.certificate, tls.key_file)
    return context


def _context(protocol: "ssl._SSLMethod", profile: Profile) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_CIPHER_SUITES[profile])
    return context


def _believe(context: ssl.SSLContext, authorities: Path) -> None:
    try:
        context.load_verify_locations(authorities)
    except ssl.SSLError as error:  # an OSError, too
        raise UnavailableError(f"{authorities} holds no certificates of authorities in PEM form.") from error
    except OSError as error:
        raise UnavailableError(f"{authorities} cannot be read: {error.strerror}.") from error


def _show(context: ssl.SSLContext, certificate: Path | None, key: Path | None) -> None:
    if certificate is None or key is None:
        return
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:  # an OSError, too
        why = "they do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else "damaged, or no PEM"
        raise UnavailableError(f"The certificate {certificate} with the key {key}: {why}.") from error
    except OSError as error:
        raise UnavailableError(
            f"The certificate {certificate} or its key {key} cannot be read: {error.strerror}."
        ) from error


def _no_password() -> str:
    # Without this, OpenSSL would ask at the terminal, and wait.
    raise UnavailableError("A private key is protected with a password, which nobody can enter here.")
