"""Associations that we open over TLS: DCMTK, Orthanc, OpenSSL at the other end, each as it should not be."""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from lungnode.errors import UnavailableError, UnusableError
from lungnode.scu.association import echo
from lungnode.scu.find import querying
from lungnode.settings import Peer, PeerTls
from tests.certificates import LONG_AGO, Authority, Identity
from tests.couriers import dimse
from tests.nodes import listens, stop, wait_for
from tests.orthanc import Orthanc, free_port, running_orthanc
from worker.carriers.dimse import storing

pytestmark = pytest.mark.skipif(shutil.which("storescp") is None, reason="DCMTK is absent: apt install dcmtk")
OURS: Final = "LUNGNODE"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the other side does not know."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Identity:
    return authority.sign("lungnode.example.org")


@contextmanager
def storescp(folder: Path, identity: Identity | None, authority: Authority, *options: str) -> Iterator[int]:
    """Run DCMTK's storescp, which asks for certificates, while the block runs."""
    port = free_port()
    tls = (
        ["+tls", str(identity.key), str(identity.certificate), "+cf", str(authority.file)] if identity else []
    )
    command = ["storescp", "--fork", "+B", "-od", str(folder), *tls, *options, str(port)]
    with (folder / "storescp.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(lambda: listens(port), what="storescp")
            yield port
        finally:
            stop(process)


def peer(port: int, authority: Authority, own: Identity | None, **changes: Any) -> Peer:
    """Our settings for a peer at `port`."""
    tls = {
        "authorities": authority.file,
        "certificate": own and own.certificate,
        "private_key": own and own.key,
        "server_name": "pacs.example.org",
    }
    return Peer(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=port,
        timeout_s=20,
        tls=PeerTls.model_validate(tls | changes),
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Callable[..., Peer]]:
    """A PACS as it should be, and settings for it."""
    folder = tmp_path_factory.mktemp("storescp")
    with storescp(folder, authority.sign("pacs.example.org"), authority) as port:
        yield lambda own, **changes: peer(port, authority, own, **changes)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Orthanc]:
    folder, identity = tmp_path_factory.mktemp("orthanc"), authority.sign("pacs.example.org")
    with running_orthanc(
        folder,
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(identity.certificate),
        DicomTlsPrivateKey=str(identity.key),
        DicomTlsTrustedCertificates=str(authority.file),
        DicomTlsRemoteCertificateRequired=True,
    ) as running:
        yield running


def test_dcmtk_answers_our_echo_over_tls(good: Callable[..., Peer], own: Identity) -> None:
    echo(good(own), OURS)


def test_orthanc_is_sent_to_and_asked_over_tls(
    orthanc: Orthanc, authority: Authority, own: Identity, shared_data: Path
) -> None:
    path = shared_data / "dicom/syntaxes/P001_0060_explicit_le.dcm"
    where = peer(orthanc.dicom_port, authority, own)
    destination = dimse(orthanc.dicom_port, ae_title="ORTHANC", tls=where.tls, timeout_s=20)
    uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)

    with storing(destination, OURS, {CTImageStorage: {ExplicitVRLittleEndian}}) as scp:
        assert scp.store(path, ExplicitVRLittleEndian, CTImageStorage).status == "0x0000"

    asked = where.model_copy(update={"query": "study_root", "ae_title": "ORTHANC"})
    with querying(asked, OURS) as query:
        assert [study.study_instance_uid for study in query.studies({"StudyInstanceUID": uid})] == [uid]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"server_name": None}, "TLS_WRONG_NAME"),
        ({"server_name": "other.example.org"}, "TLS_WRONG_NAME"),
        ({"authorities": "STRANGER"}, "TLS_UNKNOWN_AUTHORITY"),
        ({"authorities": None}, "TLS_UNKNOWN_AUTHORITY"),
        ({"certificate": None, "private_key": None}, "TLS_OURS_MISSING"),
        ({"certificate": "STRANGER", "private_key": "STRANGER"}, "TLS_OURS_REJECTED"),
    ],
    ids=[
        "its address",
        "another name",
        "wrong authority",
        "system's authorities",
        "no certificate",
        "a stranger's",
    ],
)
def test_what_only_people_can_mend_is_named_and_final(
    good: Callable[..., Peer],
    own: Identity,
    stranger: Authority,
    changes: dict[str, Any],
    name: str,
) -> None:
    foreign = stranger.sign("lungnode.example.org")
    known = {"authorities": stranger.file, "certificate": foreign.certificate, "private_key": foreign.key}
    changes = {key: known[key] if value == "STRANGER" else value for key, value in changes.items()}

    with pytest.raises(
        UnusableError, match=rf"^No TLS with Peer pacs \(PACS at 127.0.0.1:\d+\): .* \({name}\)\.$"
    ):
        echo(good(own, **changes), OURS)

    echo(good(own), OURS)


@pytest.mark.parametrize("verify", ["authority", "none"])
def test_less_can_be_asked_of_a_peer(
    tmp_path: Path, authority: Authority, stranger: Authority, own: Identity, verify: str
) -> None:
    theirs = (authority if verify == "authority" else stranger).sign("whatever.example.org")
    with storescp(tmp_path, theirs, authority) as port:
        echo(peer(port, authority, own, verify=verify), OURS)


def test_an_expired_certificate_may_be_renewed_until_the_next_attempt(
    tmp_path: Path, authority: Authority, own: Identity
) -> None:
    theirs = authority.sign("pacs.example.org", expires=LONG_AGO)
    with (
        storescp(tmp_path, theirs, authority) as port,
        pytest.raises(UnavailableError, match=r"its certificate has expired \(TLS_CERTIFICATE_EXPIRED\)"),
    ):
        echo(peer(port, authority, own), OURS)


def test_a_peer_without_tls_is_named(tmp_path: Path, authority: Authority, own: Identity) -> None:
    with storescp(tmp_path, None, authority) as port, pytest.raises(UnavailableError, match="TLS_CUT"):
        echo(peer(port, authority, own), OURS)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "TLS_TOO_OLD"),
        (("-tls1_2", "-cipher", "AES128-SHA256"), "TLS_NOTHING_IN_COMMON"),
    ],
    ids=["protocol", "cipher suite"],
)
def test_a_peer_whose_tls_is_too_old_is_named(
    authority: Authority, own: Identity, options: tuple[str, ...], name: str
) -> None:
    theirs = authority.sign("pacs.example.org")
    command = [
        "openssl",
        "s_server",
        "-cert",
        theirs.certificate,
        "-key",
        theirs.key,
        "-accept",
        "127.0.0.1:0",
        *options,
    ]
    process = subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if b"ACCEPT" in line)
        found = re.search(rb":(\d+)", line)
        assert found is not None
        with pytest.raises(UnusableError, match=name):
            echo(peer(int(found[1]), authority, own), OURS)
    finally:
        stop(process)
        process.communicate()


def test_a_peer_that_never_answers_the_handshake_is_given_up(authority: Authority, own: Identity) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = peer(silent.getsockname()[1], authority, own)

        with pytest.raises(UnavailableError, match="TLS_NO_ANSWER"):
            echo(where.model_copy(update={"timeout_s": 0.5}), OURS)


def test_a_certificate_of_ours_that_cannot_be_read_is_named(authority: Authority, own: Identity) -> None:
    with pytest.raises(UnavailableError, match=r"/nowhere\.pem or its key .* cannot be read: No such file"):
        echo(peer(1, authority, own, certificate="/nowhere.pem"), OURS)


def test_a_peer_that_answers_with_something_else_is_named(authority: Authority, own: Identity) -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = Thread(target=answer)
        thread.start()
        with pytest.raises(UnusableError, match="TLS_NOT_SPOKEN"):
            echo(peer(server.getsockname()[1], authority, own), OURS)
        thread.join()
