"""What `lungnode check` says of our own certificates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lungnode.cli._certificates import check_certificates
from lungnode.cli._check import Status
from lungnode.settings import Peer, PeerTls, ReceiverSettings, ReceiverTls, Settings, WebSettings
from lungnode.settings.audit import AuditSettings, SyslogSettings
from tests.certificates import Authority, Identity


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(receivers: Identity, towards_peers: Identity, authority: Authority) -> Settings:
    """A node with a port for TLS, and two peers that are shown the same certificate."""
    tls = PeerTls(certificate=towards_peers.certificate, private_key=towards_peers.key)
    peers = [Peer(name=name, ae_title=name, host="127.0.0.1", port=1, tls=tls) for name in ("A", "B")]
    return Settings(
        receiver=ReceiverSettings(
            tls=ReceiverTls(
                certificate=receivers.certificate, private_key=receivers.key, authorities=authority.file
            )
        ),
        peers=(*peers, Peer(name="plain", ae_title="C", host="127.0.0.1", port=1)),
    )


@pytest.mark.parametrize(
    ("days", "status", "says"),
    [
        (90, Status.OK, "."),
        (20, Status.WARNING, ": 19 days are left."),
        (-1, Status.WRONG, ": it has expired"),
    ],
    ids=["good", "soon", "expired"],
)
def test_a_certificate_that_expires_is_told_in_time(
    authority: Authority, days: int, status: Status, says: str
) -> None:
    end = datetime.now(UTC) + timedelta(days=days)
    found = {
        each.name: each
        for each in check_certificates(settings(authority.sign(expires=end), authority.sign(), authority))
    }

    assert list(found) == ["certificate of the receiver", "certificate towards A"]
    ours = found["certificate of the receiver"]
    assert ours.status == status
    assert f"until {end:%Y-%m-%d}{says}" in ours.message
    assert found["certificate towards A"].status == Status.OK


def test_a_certificate_with_another_one_s_key_is_wrong(authority: Authority) -> None:
    mixed = Identity(authority.sign().certificate, authority.sign().key)

    found = [*check_certificates(settings(authority.sign(), mixed, authority))]

    assert [each.status for each in found] == [Status.OK, Status.WRONG]
    assert "they do not belong together" in found[1].message


def test_the_web_and_the_syslog_server_are_shown_certificates_too(authority: Authority) -> None:
    soon = authority.sign(expires=datetime.now(UTC) + timedelta(days=3))
    web = WebSettings(certificate=soon.certificate, private_key=soon.key)
    syslog = SyslogSettings(tls=PeerTls(certificate=soon.certificate, private_key=soon.key))

    found = check_certificates(Settings(web=web, audit=AuditSettings(syslog=syslog)))

    assert [(each.name, each.status) for each in found] == [
        ("certificate of the web", Status.WARNING),
        ("certificate towards the syslog server", Status.WARNING),
    ]
