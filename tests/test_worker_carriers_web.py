"""Who we are to a web server, and whom we believe."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import PeerTls, StowDestination
from tests.certificates import LONG_AGO, Authority, Identity
from tests.web_peers import Reply, WebPeer, web_peer
from worker.carriers.web import web_session

URL = "https://pacs.example.org/dicom-web"


def destination(url: str = URL, **values: Any) -> StowDestination:
    return StowDestination(**({"name": "cloud", "kind": "stow", "url": url, "timeout_s": 20.0} | values))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[WebPeer]:
    with web_peer(lambda _request: Reply(), authority.sign("localhost")) as running:
        yield running


@pytest.mark.parametrize(
    "values",
    [
        {"token_variable": "A", "token_file": "b"},
        {"username": "me"},
        {"password_variable": "A"},
        {"username": "me", "password_variable": "A", "token_variable": "B"},
        {"url": "ftp://pacs.example.org"},
        {"url": "https://me:secret@pacs.example.org"},
        {"url": "https://pacs.example.org/studies?token=1"},
        {"ae_title": "PACS"},
    ],
)
def test_nonsense_is_refused_when_settings_are_read(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        StowDestination.model_validate({"name": "cloud", "kind": "stow", "url": URL} | values)


def test_a_secret_is_read_at_each_attempt_so_that_it_may_be_renewed(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with web_peer(lambda _request: Reply()) as server:
        for secret in ("first", "second"):
            token.write_text(f"{secret}\n")
            with web_session(destination(server.url(), token_file=token)) as session:
                session.get(server.url("/"))

    assert [each.headers["Authorization"] for each in server.asked] == ["Bearer first", "Bearer second"]


def test_basic_authentication_has_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACS_PASSWORD", "Grün:1")
    with web_peer(lambda _request: Reply()) as server:
        to = destination(server.url(), username="lungnode", password_variable="PACS_PASSWORD")  # noqa: S106 - its name
        with web_session(to) as session:
            session.get(server.url("/"))

    # Source: RFC 7617 2.1, UTF-8.
    assert (
        server.asked[0].headers["Authorization"] == "Basic " + b64encode("lungnode:Grün:1".encode()).decode()
    )


def test_a_secret_that_is_not_there_is_a_reason_to_wait(tmp_path: Path) -> None:
    no_file = destination(token_file=tmp_path / "x")
    no_variable = destination(token_variable="LUNGNODE_NONE")  # noqa: S106 - its name

    with pytest.raises(UnavailableError, match="cannot be read"), web_session(no_file):
        pass
    with pytest.raises(UnavailableError, match="LUNGNODE_NONE with a secret"), web_session(no_variable):
        pass


def get(server: WebPeer, host: str = "localhost", **tls: Any) -> int:
    with web_session(destination(server.url(host=host), tls=PeerTls(**tls))) as session:
        return session.get(server.url("/", host)).status_code


def test_a_certificate_of_the_authority_with_the_right_name_is_believed(
    server: WebPeer, authority: Authority
) -> None:
    assert get(server, authorities=authority.file) == 200


def test_the_authorities_of_the_system_count_only_where_no_other_is_named(server: WebPeer) -> None:
    with pytest.raises(UnusableError, match="TLS_UNKNOWN_AUTHORITY"):
        get(server)


def test_another_authority_is_not_believed(server: WebPeer, tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="TLS_UNKNOWN_AUTHORITY"):
        get(server, authorities=Authority(tmp_path).file)


def test_the_name_counts_unless_the_settings_say_otherwise(server: WebPeer, authority: Authority) -> None:
    with pytest.raises(UnusableError, match="TLS_WRONG_NAME"):
        get(server, "127.0.0.1", authorities=authority.file)

    assert get(server, "127.0.0.1", authorities=authority.file, server_name="localhost") == 200
    assert get(server, "127.0.0.1", authorities=authority.file, verify="authority") == 200
    assert get(server, "127.0.0.1", verify="none") == 200


def test_an_expired_certificate_is_a_reason_to_wait_for_its_renewal(authority: Authority) -> None:
    expired: Identity = authority.sign("localhost", expires=LONG_AGO + timedelta(days=1))

    with (
        web_peer(lambda _request: Reply(), expired) as server,
        pytest.raises(UnavailableError, match="TLS_CERTIFICATE_EXPIRED"),
    ):
        get(server, authorities=authority.file)
