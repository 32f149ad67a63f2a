"""What an X.509 certificate says: whose it is, and until when."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from lungnode.errors import UnavailableError

SOON: Final = timedelta(days=30)  # before its end a certificate should be renewed


def bears(certificate: bytes, subject: str) -> bool:
    """Tell whether a certificate (DER) is of this subject.

    Args:
        certificate: It was verified before.
        subject: A whole distinguished name ("CN=ct1,O=Hospital", the most specific part first), or only a
            common name or DNS name ("ct1.example.org"), which holds no equals sign.

    Source: RFC 4514 for distinguished names, RFC 5280 4.2.1.6 for DNS names.
    """
    parsed = x509.load_der_x509_certificate(certificate)
    if "=" in subject:
        return parsed.subject.rfc4514_string() == subject
    common_names = [name.value for name in parsed.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return subject in common_names or subject in _dns_names(parsed)


def expires_at(path: Path) -> datetime:
    """Return when the first certificate of a PEM file expires.

    Raises:
        UnavailableError: The file cannot be read, or holds no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UnavailableError(f"{path} holds no certificate in PEM form.") from error


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):  # none, or one that is not built as it should be
        return []
    return names.value.get_values_for_type(x509.DNSName)
