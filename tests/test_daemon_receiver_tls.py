"""The receiver's port with TLS: who comes in, who is turned away and why; others are served meanwhile."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pynetdicom import AE, evt

from daemon.receiver.dimse import Status
from lungnode.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE, Commitment, Reference
from tests.certificates import LONG_AGO, Authority, Identity
from tests.dicom_wire import CT_CONTEXT, Peer, associate_request, read_instance
from tests.receiving import (
    RunningReceiver,
    an_instance,
    digest,
    digest_of_data_set,
    running_receiver,
    wait_until,
)

ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RP, A_ABORT = 2, 3, 6, 7
needs_dcmtk = pytest.mark.skipif(
    shutil.which("storescu") is None, reason="DCMTK is absent: apt install dcmtk"
)
OLD: Final = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the receiver does not know."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Identity:
    return authority.sign("localhost")


@pytest.fixture(scope="module")
def scanner(authority: Authority) -> Identity:
    return authority.sign("ct1.example.org", common_name="ct1")


@pytest.fixture(scope="module")
def receiver(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, ours: Identity
) -> Iterator[RunningReceiver]:
    with running_receiver(
        tmp_path_factory.mktemp("receiver"),
        processes=1,
        tls=tls_of(ours, authority, subjects={"CT1": "ct1", "CT2": "ct2.example.org", "CT3": "CN=ct1"}),
    ) as running:
        yield running


def tls_of(own: Identity, authority: Authority, **settings: Any) -> dict[str, Any]:
    files = {"certificate": own.certificate, "private_key": own.key, "authorities": authority.file}
    return {"port": 0, **{name: str(path) for name, path in files.items()}, **settings}


def client(
    authority: Authority, identity: Identity | None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """What a well-behaved peer has."""
    context = ssl.create_default_context(cafile=authority.file)
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    if version is not None:
        context.maximum_version = version
    return context


def s_client(port: int, authority: Authority, identity: Identity | None, *options: str) -> str:
    """Shake hands as OpenSSL's own client does; return all it said."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(authority.file)]
    if identity is not None:
        command += ["-cert", str(identity.certificate), "-key", str(identity.key)]
    result = subprocess.run([*command, *options], input=b"", capture_output=True, timeout=60, check=False)
    return (result.stdout + result.stderr).decode("latin-1")


@pytest.fixture(scope="module")
def company(authority: Authority, stranger: Authority, scanner: Identity) -> dict[str, Identity | None]:
    """Who knocks at the door."""
    return {
        "scanner": scanner,
        "expired": authority.sign(expires=LONG_AGO),
        "of a stranger": stranger.sign(),
        "nobody": None,
    }


@pytest.fixture
def honest(receiver: RunningReceiver, authority: Authority, scanner: Identity) -> Iterator[Peer]:
    """A peer with an open association, which is served before and after whatever the test does."""
    with receiver.connect_tls(client(authority, scanner)) as peer:
        peer.associate()
        assert peer.store(an_instance(1)) == Status.SUCCESS
        yield peer
        assert peer.store(an_instance(2)) == Status.SUCCESS
        assert peer.release() == RELEASE_RP


@needs_dcmtk
def test_storescu_and_echoscu_are_served_over_tls(
    receiver: RunningReceiver, authority: Authority, scanner: Identity, shared_data: Path
) -> None:
    path = next(iter(sorted((shared_data / "dicom/syntaxes").glob("*xplicit*ittle*"))), None) or next(
        iter(sorted((shared_data / "dicom").rglob("*.dcm")))
    )
    tls = ["+tls", str(scanner.key), str(scanner.certificate), "+cf", str(authority.file)]
    place = ["-aec", "LUNGNODE", "127.0.0.1", str(receiver.tls_port)]

    for command in (["echoscu", *tls, *place], ["storescu", "-R", *tls, *place, str(path)]):
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stdout + result.stderr

    uid = read_instance(path).sop_instance_uid
    assert uid in {read_instance(kept).sop_instance_uid for kept in receiver.files()}
    receiver.wait_for_log("association of STORESCU (127.0.0.1, TLSv1.3) to LUNGNODE released: 1 instances")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("maximum_length", [0, 30_001, 200_000])
def test_what_comes_over_tls_is_kept_as_it_came(
    receiver: RunningReceiver,
    authority: Authority,
    scanner: Identity,
    version: ssl.TLSVersion,
    maximum_length: int,
) -> None:
    number = 10_000 * version + maximum_length
    instances = [an_instance(number + copy, size=size) for copy, size in enumerate((40, 900_000, 2_500_000))]
    with receiver.connect_tls(client(authority, scanner, version)) as peer:
        peer.associate()
        for instance in instances[: 3 if maximum_length else 2]:
            assert peer.store(instance, maximum_length=maximum_length) == Status.SUCCESS
            assert digest(instance.data_set) in {digest_of_data_set(path) for path in receiver.files()}
        assert peer.release() == RELEASE_RP
        assert peer.socket.recv(1) == b"", "the end is said with TLS's own farewell"


def test_a_message_may_come_in_records_of_one_byte(
    receiver: RunningReceiver, authority: Authority, scanner: Identity
) -> None:
    with receiver.connect_tls(client(authority, scanner)) as peer:
        for byte in associate_request():
            peer.send(bytes([byte]))

        assert peer.read_pdu()[0] == ASSOCIATE_AC


def test_a_commitment_report_finds_its_way_back_over_tls(
    receiver: RunningReceiver, authority: Authority, scanner: Identity
) -> None:
    entity = AE(ae_title="CT1")
    entity.add_requested_context(PUSH_MODEL)
    told: list[int | None] = []

    def take(event: evt.Event) -> tuple[int, None]:
        told.append(event.event_type)
        return 0x0000, None

    association = entity.associate(
        "127.0.0.1",
        receiver.tls_port,
        ae_title="LUNGNODE",
        tls_args=(client(authority, scanner), "localhost"),
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)],
    )
    request = Commitment("1.2.3.4.6", (Reference(CT_CONTEXT[1], "1.2.3"),))
    association.send_n_action(request.data_set(), 1, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    (path,) = receiver.spool.glob("*/*.action")

    path.with_suffix(".part").write_bytes(request.as_json())
    path.with_suffix(".part").rename(path.with_suffix(".result"))

    wait_until(lambda: path.with_suffix(".reported").exists(), "no answer is noted")
    association.release()
    assert told == [1]


@pytest.mark.parametrize("options", [("-tls1_2",), ("-tls1_3",)], ids=["1.2", "1.3"])
def test_both_protocols_of_the_profile_are_spoken_and_our_chain_is_shown(
    receiver: RunningReceiver, authority: Authority, scanner: Identity, options: tuple[str, ...]
) -> None:
    said = s_client(receiver.tls_port, authority, scanner, *options)

    assert "Verify return code: 0 (ok)" in said
    assert f"TLSv1.{options[0][-1]}, Cipher is" in said.replace("New, ", "")


@pytest.mark.parametrize(
    ("who", "options", "reason"),
    [
        ("expired", (), "TLS_CERTIFICATE_EXPIRED: its certificate has expired"),
        ("of a stranger", (), "TLS_UNKNOWN_AUTHORITY: its certificate comes from an authority"),
        ("nobody", (), "TLS_NO_CERTIFICATE: it shows no certificate"),
        ("nobody", ("-tls1_2",), "TLS_NO_CERTIFICATE: it shows no certificate"),
        ("scanner", OLD, "TLS_TOO_OLD: it speaks no TLS that is new enough"),
        ("scanner", ("-tls1_2", "-cipher", "AES128-SHA256"), "TLS_NOTHING_IN_COMMON"),
        ("scanner", ("-tls1_2", "-cipher", "ECDHE+CHACHA20"), "TLS_NOTHING_IN_COMMON"),
    ],
    ids=["expired", "wrong authority", "none", "none, 1.2", "old protocol", "old cipher", "another profile"],
)
@pytest.mark.usefixtures("honest")
def test_who_is_turned_away_is_named_and_others_are_served(
    receiver: RunningReceiver,
    authority: Authority,
    company: dict[str, Identity | None],
    who: str,
    options: tuple[str, ...],
    reason: str,
) -> None:
    before = receiver.log_text().count(reason)

    said = s_client(receiver.tls_port, authority, company[who], "-ign_eof", *options)

    wait_until(lambda: receiver.log_text().count(reason) == before + 1, f"no line says {reason!r}")
    assert "alert" in said
    assert "Traceback" not in receiver.log_text()


@needs_dcmtk
@pytest.mark.usefixtures("honest")
@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("nobody", "TLS_NO_CERTIFICATE"),
        ("expired", "TLS_CERTIFICATE_EXPIRED"),
        ("of a stranger", "TLS_UNKNOWN_AUTHORITY"),
    ],
)
def test_dcmtk_is_turned_away_for_the_same_reasons(
    receiver: RunningReceiver,
    authority: Authority,
    company: dict[str, Identity | None],
    who: str,
    reason: str,
) -> None:
    identity = company[who]
    own = ["+tls", str(identity.key), str(identity.certificate)] if identity else ["+tla"]
    command = ["echoscu", *own, "+cf", str(authority.file), "127.0.0.1", str(receiver.tls_port)]
    before = receiver.log_text().count(reason)

    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert result.returncode != 0
    wait_until(lambda: receiver.log_text().count(reason) > before, f"no line says {reason}")


def test_a_peer_that_does_not_know_our_authority_is_named(
    receiver: RunningReceiver, stranger: Authority, scanner: Identity
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        receiver.connect_tls(client(stranger, scanner))

    receiver.wait_for_log("TLS_OURS_REJECTED: it does not accept our certificate")


@pytest.mark.usefixtures("honest")
def test_dicom_without_tls_is_aborted_on_the_port_with_tls(receiver: RunningReceiver) -> None:
    with Peer(receiver.tls_port) as peer:
        peer.send(associate_request())

        assert peer.read_pdu()[0] == A_ABORT
    receiver.wait_for_log("127.0.0.1 sent no usable A-ASSOCIATE-RQ: TLS_NOT_SPOKEN: it does not speak TLS")


def test_tls_on_the_port_without_is_ended_with_one_line(
    receiver: RunningReceiver, authority: Authority, scanner: Identity
) -> None:
    said = s_client(receiver.port, authority, scanner)

    assert "wrong version number" in said
    receiver.wait_for_log("sent no usable A-ASSOCIATE-RQ: TLS is not spoken on this port.")


def test_connections_that_bring_no_handshake_leave_nothing(
    receiver: RunningReceiver, authority: Authority, scanner: Identity
) -> None:
    (child,) = receiver.children()
    process = Path(f"/proc/{child}")
    wait_until(lambda: len(list((process / "task").iterdir())) == 1, "earlier threads do not end")
    descriptors, lines = len(list((process / "fd").iterdir())), receiver.log_text().count("\n")

    for number in range(300):
        with Peer(receiver.tls_port) as peer:
            peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[: number % 12])

    wait_until(lambda: len(list((process / "task").iterdir())) == 1, "threads are left")
    wait_until(lambda: len(list((process / "fd").iterdir())) <= descriptors, "descriptors are left")
    assert receiver.log_text().count("\n") == lines, "who went without a word is no news"
    with receiver.connect_tls(client(authority, scanner)) as peer:
        peer.associate()
        assert peer.echo() == Status.SUCCESS


@pytest.mark.parametrize(
    ("calling", "over_tls", "is_accepted"),
    [
        ("CT1", True, True),
        ("CT1", False, False),
        ("CT2", True, False),
        ("CT3", True, False),
        ("OTHER", True, True),
        ("OTHER", False, True),
    ],
    ids=["its own", "without TLS", "of another", "whole name", "not bound", "not bound, without TLS"],
)
def test_an_ae_title_can_be_bound_to_a_certificate(
    receiver: RunningReceiver,
    authority: Authority,
    scanner: Identity,
    calling: str,
    over_tls: bool,
    is_accepted: bool,
) -> None:
    with receiver.connect_tls(client(authority, scanner)) if over_tls else receiver.connect() as peer:
        peer.send(associate_request((CT_CONTEXT,), calling=calling))
        pdu_type, body = peer.read_pdu()

    if is_accepted:
        assert pdu_type == ASSOCIATE_AC
    else:
        assert (pdu_type, *body[1:4]) == (ASSOCIATE_RJ, 1, 1, 3)
        receiver.wait_for_log(f"association of {calling} (127.0.0.1, TLSv1.3)" if over_tls else calling)
        receiver.wait_for_log("rejected: CERTIFICATE_OF_ANOTHER")


def serial(receiver: RunningReceiver, context: ssl.SSLContext) -> str:
    """The serial number of the certificate that the receiver shows to a new connection."""
    with receiver.connect_tls(context) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        shown: dict[str, Any] = peer.socket.getpeercert() or {}
        return str(shown["serialNumber"])


def test_a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(
    tmp_path: Path, authority: Authority, scanner: Identity
) -> None:
    own = authority.sign("localhost")
    context = client(authority, scanner)
    with running_receiver(tmp_path, processes=1, tls=tls_of(own, authority)) as receiver:
        first = serial(receiver, context)

        authority.sign("localhost", at=own)
        second = serial(receiver, context)
        receiver.wait_for_log(f"the certificate was read again: {own.certificate}")
        own.certificate.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
        third = serial(receiver, context)
        receiver.wait_for_log("the certificate in force is kept: The certificate ")
        own.certificate.unlink()
        fourth = serial(receiver, context)
        receiver.process.send_signal(signal.SIGHUP)
        receiver.wait_for_log("cannot be read: No such file or directory")
        authority.sign("localhost", at=own)
        fifth = serial(receiver, context)
        before = receiver.log_text().count("was read again")
        receiver.process.send_signal(signal.SIGHUP)
        wait_until(lambda: receiver.log_text().count("was read again") > before, "SIGHUP is not heard")

        assert second == third == fourth
        assert len({first, second, fifth}) == 3
        assert len(receiver.children()) == 1


def test_a_handshake_that_does_not_go_on_ends_after_artim(
    tmp_path: Path, authority: Authority, ours: Identity
) -> None:
    with running_receiver(tmp_path, processes=1, artim_s=0.3, tls=tls_of(ours, authority)) as receiver:
        with Peer(receiver.tls_port) as slow:
            # A record that announces 512 bytes, of which one comes now and then: progress, and yet none.
            slow.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            while "TLS_NO_ANSWER" not in receiver.log_text():
                try:
                    slow.send(b"\x00")
                except ConnectionError:
                    break
                time.sleep(0.05)
        receiver.wait_for_log("TLS_NO_ANSWER: it fell silent in the TLS handshake")


def test_sigterm_aborts_an_idle_association_in_its_own_words(
    tmp_path: Path, authority: Authority, ours: Identity, scanner: Identity
) -> None:
    with running_receiver(tmp_path, processes=1, tls=tls_of(ours, authority)) as receiver:
        with receiver.connect_tls(client(authority, scanner)) as peer:
            peer.associate()

            receiver.process.send_signal(signal.SIGTERM)

            assert peer.read_pdu()[0] == A_ABORT
        assert receiver.process.wait(30) == 0


def test_certificates_of_peers_can_be_optional_and_the_port_without_tls_closed(
    tmp_path: Path, authority: Authority, stranger: Authority, ours: Identity, scanner: Identity
) -> None:
    tls = tls_of(ours, authority, client_certificates="optional", only=True, profile="bcp195-modified")
    with running_receiver(tmp_path, processes=1, tls=tls) as receiver:
        assert receiver.port == 0
        assert f'"tls_port": {receiver.tls_port}' in (receiver.data / "receiver.json").read_text()
        for identity in (None, scanner):
            with receiver.connect_tls(client(authority, identity)) as peer:
                peer.associate()
                assert peer.echo() == Status.SUCCESS
        assert "Cipher is ECDHE-ECDSA-CHACHA20" in s_client(
            receiver.tls_port, authority, None, "-tls1_2", "-cipher", "ECDHE+CHACHA20"
        )
        s_client(receiver.tls_port, authority, stranger.sign())
        receiver.wait_for_log("TLS_UNKNOWN_AUTHORITY")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"certificate": "/nowhere.pem"},
            r"The certificate /nowhere.pem or its key .* cannot be read: No such",
        ),
        ({"authorities": "/nowhere.pem"}, r"/nowhere.pem cannot be read: No such file or directory\."),
        ({"private_key": "OTHER"}, r"The certificate .* with the key .*: they do not belong together\."),
        ({"authorities": "KEY"}, r"holds no certificates of authorities in PEM form\."),
        ({"private_key": "LOCKED"}, r"A private key is protected with a password"),
        ({"authorities": None}, r"client certificates can only be required with receiver\.tls\.authorities"),
    ],
    ids=["no certificate", "no authorities", "another key", "no PEM", "a password", "nobody to believe"],
)
def test_a_certificate_that_cannot_be_used_is_one_sentence_at_the_start(
    tmp_path: Path, authority: Authority, ours: Identity, change: dict[str, Any], sentence: str
) -> None:
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-aes128", "-passout", "pass:x", "-in", str(ours.key), "-out", str(locked)],
        check=True,
    )
    named = {"OTHER": authority.sign().key, "KEY": ours.key, "LOCKED": locked}
    tls = {
        **tls_of(ours, authority),
        **{name: str(named.get(value, value)) for name, value in change.items()},
    }
    variables = {
        f"LUNGNODE_RECEIVER__TLS__{name.upper()}": str(value)
        for name, value in tls.items()
        if value != "None"
    }
    command = [sys.executable, "-m", "lungnode", "receive", "--data", str(tmp_path / "data")]
    environment = os.environ | variables | {"LUNGNODE_RECEIVER__PORT": "0"}

    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert result.returncode in {1, 2}
    assert re.search(sentence, result.stderr)
    assert "Traceback" not in result.stderr
