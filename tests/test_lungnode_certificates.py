"""Whose a certificate is."""

import ssl
from pathlib import Path

import pytest
import trustme

from lungnode.certificates import bears, expires_at
from lungnode.errors import UnavailableError


@pytest.fixture(scope="module")
def certificate() -> bytes:
    """Common name "ct1,O=Clinic", which looks like more than one part of a name."""
    made = trustme.CA().issue_cert(
        "ct1.example.org",
        common_name="ct1,O=Clinic",
        organization_name="Hospital",
        organization_unit_name="CT",
    )
    return ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())


@pytest.mark.parametrize(
    ("subject", "is_borne"),
    [
        ("ct1.example.org", True),
        (r"CN=ct1\,O\=Clinic,OU=CT,O=Hospital", False),
        (r"CN=ct1\,O=Clinic,OU=CT,O=Hospital", True),
        ("CN=ct1,O=Clinic", False),
        ("ct1", False),
        ("Hospital", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_a_certificate_bears_its_whole_name_its_common_name_or_a_dns_name(
    certificate: bytes, subject: str, is_borne: bool
) -> None:
    assert bears(certificate, subject) is is_borne


def test_what_is_no_certificate_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no")

    with pytest.raises(UnavailableError, match=r"no\.pem holds no certificate in PEM form"):
        expires_at(tmp_path / "no.pem")
    with pytest.raises(UnavailableError, match="cannot be read: No such file"):
        expires_at(tmp_path / "nowhere.pem")
