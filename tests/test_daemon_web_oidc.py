"""Signing in at a real OpenID Connect provider, a process of its own on loopback."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import select

from db.accounts import disable, find_account
from db.models import Account, Role
from db.session import reading, transaction
from lungnode.settings import OidcSettings, WebSettings
from tests.databases import new_sqlite
from tests.nodes import wait_for
from tests.orthanc import free_port
from tests.web import Browser, Web

CLIENT = "lungnode"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    port = free_port()
    command = (sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port))
    with subprocess.Popen((*command, "--require-nonce", "true"), stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{url}/.well-known/openid-configuration").is_success
            except httpx.HTTPError:
                return False

        try:
            wait_for(answers, limit_s=60, what="the provider")
            yield url
        finally:
            process.terminate()


@pytest.fixture
def web(issuer: str, tmp_path: Path) -> Iterator[Web]:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    oidc = OidcSettings(
        issuer=issuer,
        client_id=CLIENT,
        client_secret="secret",  # noqa: S106 - of a provider that lives as long as the tests
        name="St. Elsewhere",
        roles={"radiology": "reader", "it": "admin", "all": "viewer"},
    )
    yield Web(engine, tmp_path / "data", {"web": WebSettings(oidc=oidc)})
    engine.dispose()


def person(issuer: str, sub: str, **claims: Any) -> str:
    """Let the provider know somebody."""
    httpx.put(f"{issuer}/users/{sub}", json=claims, timeout=60).raise_for_status()
    return sub


def begin(browser: Browser, target: str = "/models") -> str:
    """Return where the provider is to send the browser."""
    return str(browser.get(f"/oidc/start?next={target}").headers["location"])


def there(address: str, sub: str) -> str:
    """Sign in at the provider, and return where it sends the browser."""
    return str(httpx.post(address, data={"sub": sub}, timeout=60).headers["location"])


def back(browser: Browser, address: str) -> Any:
    parts = urlsplit(address)
    return browser.get(f"{parts.path}?{parts.query}")


def sign_in(web: Web, sub: str) -> tuple[Browser, Any]:
    browser = web.browser()
    return browser, back(browser, there(begin(browser), sub))


def test_who_signs_in_at_the_provider_has_the_highest_role_of_their_groups(web: Web, issuer: str) -> None:
    sub = person(issuer, "17", preferred_username="Carla", groups=["all", "radiology", "else"])

    browser, answer = sign_in(web, sub)

    assert (answer.status_code, answer.headers["location"]) == (303, "/models")
    assert browser.get("/upload").status_code == 200
    assert browser.get("/users").status_code == 403
    with reading(web.engine) as session:
        account = find_account(session, "carla")
    assert (account.role, account.password, account.subject) == (Role.READER, "", f"{issuer} 17")
    assert "Sign in with St. Elsewhere" in web.browser().get("/sign-in").text


def test_the_same_person_keeps_the_account_and_gets_the_role_of_today(web: Web, issuer: str) -> None:
    sign_in(web, person(issuer, "18", preferred_username="dora", groups=["radiology"]))
    browser, _ = sign_in(web, person(issuer, "18", preferred_username="dora-renamed", groups=["it"]))

    assert browser.get("/users").status_code == 200
    with reading(web.engine) as session:
        names = session.scalars(select(Account.name).where(Account.subject.is_not(None))).all()
    assert names == ["dora"]


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"preferred_username": "eve", "groups": ["else"]}, "You have no role here"),
        ({"preferred_username": "eve"}, "You have no role here"),
        ({"preferred_username": "admin", "groups": ["all"]}, "Another account is called admin"),
        ({"groups": ["all"]}, "The name of an account"),
        ({"preferred_username": "x' OR 1=1", "groups": ["all"]}, "The name of an account"),
    ],
)
def test_who_has_no_role_or_somebody_elses_name_stays_outside(
    web: Web, issuer: str, claims: dict[str, Any], words: str
) -> None:
    browser, answer = sign_in(web, person(issuer, "19", **claims))

    assert (answer.status_code, words in answer.text) == (403, True)
    assert browser.get("/models").status_code == 303


def test_who_is_disabled_here_stays_outside(web: Web, issuer: str) -> None:
    sub = person(issuer, "20", preferred_username="fred", groups=["all"])
    sign_in(web, sub)
    with transaction(web.engine) as session:
        disable(session, find_account(session, "fred"), web.clock())

    assert sign_in(web, sub)[1].status_code == 403


def test_a_code_works_once_and_only_in_the_browser_that_was_sent_away(web: Web, issuer: str) -> None:
    sub = person(issuer, "21", preferred_username="gina", groups=["all"])
    browser, victim = web.browser(), web.browser()
    address = there(begin(browser), sub)
    begin(victim)  # has a cookie of its own

    stolen = back(victim, address)
    first, second = back(browser, address), back(browser, address)

    assert (stolen.status_code, first.status_code, second.status_code) == (403, 303, 403)
    assert victim.get("/models").status_code == 303


def test_a_sign_in_that_takes_too_long_is_begun_again(web: Web, issuer: str) -> None:
    browser = web.browser()
    address = there(begin(browser), person(issuer, "22", preferred_username="hugo", groups=["all"]))
    web.clock.pass_s(601)

    answer = back(browser, address)

    assert (answer.status_code, "took too long" in answer.text) == (403, True)


def test_the_provider_is_asked_with_pkce_and_a_nonce(web: Web) -> None:
    asked = parse_qs(urlsplit(begin(web.browser())).query)

    assert asked["code_challenge_method"] == ["S256"]
    assert asked["response_type"] == ["code"]
    assert {"nonce", "state", "code_challenge"} <= set(asked)
    assert "code_verifier" not in asked


def test_a_token_for_another_sign_in_is_not_believed(web: Web, issuer: str) -> None:
    sub = person(issuer, "23", preferred_username="ida", groups=["all"])
    browser = web.browser()
    address = begin(browser)
    nonce = parse_qs(urlsplit(address).query)["nonce"][0]

    answer = back(browser, there(address.replace(nonce, "x" * len(nonce)), sub))

    assert (answer.status_code, "not true" in answer.text) == (403, True)


def test_a_refusal_and_a_forged_code_are_told(web: Web) -> None:
    browser = web.browser()
    state = parse_qs(urlsplit(begin(browser)).query)["state"][0]
    denied = browser.get(f"/oidc/callback?state={state}&error=access_denied")
    state = parse_qs(urlsplit(begin(browser)).query)["state"][0]
    forged = browser.get(f"/oidc/callback?state={state}&code=forged")

    assert (denied.status_code, "did not let you in" in denied.text) == (403, True)
    assert (forged.status_code, "refuses the sign-in" in forged.text) == (403, True)


def test_a_provider_that_is_away_is_told_and_passwords_go_on_working(tmp_path: Path) -> None:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    away = OidcSettings(issuer=f"http://127.0.0.1:{free_port()}", client_id=CLIENT)
    web = Web(engine, tmp_path, {"web": WebSettings(oidc=away)})

    answer = web.browser().get("/oidc/start")

    assert (answer.status_code, "gives no answer" in answer.text) == (503, True)
    assert web.browser("viewer").get("/models").status_code == 200
    engine.dispose()


def test_without_a_provider_there_is_no_such_sign_in(tmp_path: Path) -> None:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")

    assert Web(engine, tmp_path).browser().get("/oidc/start").status_code == 404
    engine.dispose()
