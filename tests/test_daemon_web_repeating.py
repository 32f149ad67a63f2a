"""Writes that may be repeated with the same key."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from daemon.web.permissions import Permission
from db.models import Account, ApiToken, IdempotentWrite
from db.session import reading
from tests.web import PASSWORD, Web, new_web

API = "/api/v1"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with new_web(tmp_path_factory.mktemp("repeating")) as web:
        yield web


@pytest.fixture(scope="module")
def admin(web: Web) -> TestClient:
    return web.program("admin", *Permission, days=300)


def test_a_write_with_the_same_key_is_done_once_and_answered_the_same(web: Web, admin: TestClient) -> None:
    key = {"Idempotency-Key": "one"}
    account = {"name": "twice", "role": "reader"}

    first = admin.post(f"{API}/accounts", json=account, headers=key)
    second = admin.post(f"{API}/accounts", json=account, headers=key)
    other = admin.post(f"{API}/accounts", json=account | {"role": "viewer"}, headers=key)
    without = admin.post(f"{API}/accounts", json=account)

    assert (first.status_code, second.status_code, second.json()) == (201, 201, first.json())
    assert second.headers["idempotent-replayed"] == "true"
    assert (other.status_code, without.status_code) == (422, 409)
    web.clock.pass_s(86_401)
    assert admin.post(f"{API}/accounts", json=account, headers=key).status_code == 409  # done again, refused


def test_writes_with_one_key_at_once_are_one(web: Web, admin: TestClient) -> None:
    def add(_: int) -> int:
        return admin.post(
            f"{API}/accounts", json={"name": "at-once"}, headers={"Idempotency-Key": "two"}
        ).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(add, range(4)))

    assert set(answers) <= {201, 409}
    assert 201 in answers
    with reading(web.engine) as session:
        assert session.scalar(select(func.count()).where(Account.name == "at-once")) == 1


def test_what_failed_is_not_kept_for_its_key(admin: TestClient) -> None:
    key = {"Idempotency-Key": "three"}

    refused = admin.post(f"{API}/accounts", json={"name": "short", "password": "x"}, headers=key)
    again = admin.post(f"{API}/accounts", json={"name": "short", "password": "x"}, headers=key)

    assert (refused.status_code, again.status_code) == (409, 409)
    assert "idempotent-replayed" not in again.headers


def kept(web: Web) -> list[IdempotentWrite]:
    with reading(web.engine) as session:
        return list(session.scalars(select(IdempotentWrite)))


def test_a_tokens_secret_is_told_once_and_kept_nowhere(web: Web, admin: TestClient) -> None:
    key, wanted = {"Idempotency-Key": "four"}, {"name": "script", "scopes": ["view"]}

    made = admin.post(f"{API}/accounts/reader/tokens", json=wanted, headers=key)
    again = admin.post(f"{API}/accounts/reader/tokens", json=wanted, headers=key)

    assert (made.status_code, again.status_code, again.headers["idempotent-replayed"]) == (201, 409, "true")
    assert "told once" in again.json()["detail"]
    secret = made.json()["secret"].encode()
    assert not [row for row in kept(web) if secret in row.body]
    with reading(web.engine) as session:
        assert session.scalar(select(func.count()).where(ApiToken.name == "script")) == 1


def test_what_is_kept_of_a_password_is_of_no_use_without_the_key(web: Web, admin: TestClient) -> None:
    account, key = {"name": "kept", "password": PASSWORD}, "f6e3a7b2-with-much-chance"
    before = {row.key for row in kept(web)}

    assert admin.post(f"{API}/accounts", json=account, headers={"Idempotency-Key": key}).status_code == 201

    (row,) = [row for row in kept(web) if row.key not in before]
    assert key not in row.key
    assert PASSWORD.encode() not in row.body


def test_nothing_is_answered_again_to_who_may_not_write_it_or_shows_no_pages_token(
    web: Web, admin: TestClient
) -> None:
    key, account = {"Idempotency-Key": "five"}, {"name": "again"}
    assert admin.post(f"{API}/accounts", json=account, headers=key).status_code == 201
    narrow, browser = web.program("admin", "view"), web.browser("admin")

    answers = [
        narrow.post(f"{API}/accounts", json=account, headers=key),
        browser.client.post(f"{API}/accounts", json=account, headers=key),
        web.browser().client.post(f"{API}/accounts", json=account, headers=key),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 401]
