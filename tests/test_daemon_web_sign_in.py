import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from daemon.web.app import make_app
from db.accounts import disable, find_account, set_password
from db.models import AuditEvent, WebSession
from db.session import transaction
from db.sign_in import begin_attempt
from tests.web import PASSWORD, Web, kept_password


@pytest.fixture
def web(engine: Engine, tmp_path: Path) -> Web:
    return Web(engine, tmp_path)


def test_who_is_not_signed_in_is_led_to_the_form_and_then_to_the_page_that_was_asked_for(web: Web) -> None:
    browser = web.browser()

    sent = browser.get("/models?state=active")
    form = browser.get(sent.headers["location"])
    answer = browser.sign_in("viewer", target="/models?state=active")

    assert sent.status_code == 303
    assert 'value="/models?state=active"' in form.text
    assert (answer.status_code, answer.headers["location"]) == (303, "/models?state=active")
    assert browser.get("/models").status_code == 200


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "", "/\n/x"])
def test_signing_in_leads_to_no_other_site(web: Web, target: str) -> None:
    assert web.browser().sign_in("viewer", target=target).headers["location"] == "/"


@pytest.mark.parametrize(
    ("name", "password"),
    [("viewer", "wrong horse battery"), ("nobody", PASSWORD), ("", ""), ("x", "y" * 9999)],
)
def test_a_wrong_name_and_a_wrong_password_look_the_same(web: Web, name: str, password: str) -> None:
    answer = web.browser().sign_in(name, password)

    assert answer.status_code == 403
    assert "Name or password is wrong." in answer.text
    assert "set-cookie" not in answer.headers


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(web: Web) -> None:
    plain = web.browser().sign_in("viewer").headers["set-cookie"]
    secure = web.browser(base="https://testserver").sign_in("viewer").headers["set-cookie"]

    assert re.fullmatch(r"lungnode=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=lax", plain)
    assert re.fullmatch(
        r"__Host-lungnode=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=lax; Secure", secure
    )


def test_the_database_holds_no_secret_that_could_be_used(web: Web) -> None:
    cookie = web.browser("viewer").client.cookies["lungnode"]
    token = web.token("viewer", "view")

    dump = "".join(
        str(row) for table in ("web_sessions", "api_tokens", "accounts") for row in _rows(web, table)
    )

    assert len(dump) > 100
    assert cookie not in dump
    assert token not in dump
    assert PASSWORD not in dump


def _rows(web: Web, table: str) -> list[object]:
    with web.engine.connect() as connection:
        return list(connection.exec_driver_sql(f"SELECT * FROM {table}"))  # noqa: S608 - names of ours


def test_after_five_wrong_passwords_an_account_waits_a_quarter_of_an_hour_at_that_address(web: Web) -> None:
    for _ in range(5):
        assert web.browser().sign_in("viewer", "wrong horse battery").status_code == 403

    refused = web.browser().sign_in("viewer")
    elsewhere = web.browser(address="192.0.2.2").sign_in("viewer")
    other = web.browser().sign_in("reader")
    web.clock.pass_s(15 * 60 + 1)
    later = web.browser().sign_in("viewer")

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "900")
    assert [answer.status_code for answer in (elsewhere, other, later)] == [303, 303, 303]


def test_another_web_process_counts_the_same_failures(web: Web) -> None:
    for _ in range(5):
        web.browser().sign_in("viewer", "wrong horse battery")
    web.app = make_app(web.node)

    assert web.browser().sign_in("viewer").status_code == 429


def test_one_address_cannot_try_all_accounts(web: Web) -> None:
    with transaction(web.engine) as session:
        for number in range(50):
            begin_attempt(session, f"account-{number}", "192.0.2.1", web.clock())

    assert web.browser().sign_in("viewer").status_code == 429


def test_a_session_ends_when_it_is_idle_and_in_any_case_after_half_a_day(web: Web) -> None:
    idle, busy = web.browser("viewer"), web.browser("viewer")
    for _ in range(24):
        web.clock.pass_s(1700)
        assert busy.get("/").status_code == 200

    assert idle.get("/").status_code == 303
    web.clock.pass_s(43_200 - 24 * 1700)
    assert busy.get("/").status_code == 303


def test_signing_out_ends_one_session_and_everywhere_all_of_them(web: Web) -> None:
    first, second, other = web.browser("viewer"), web.browser("viewer"), web.browser("reader")

    first.client.post("/sign-out", data={"csrf_token": first.csrf_token()})
    assert [each.get("/").status_code for each in (first, second, other)] == [303, 200, 200]
    third = web.browser("viewer")
    third.client.post("/sign-out", data={"csrf_token": third.csrf_token(), "everywhere": "yes"})

    assert [each.get("/").status_code for each in (second, third, other)] == [303, 303, 200]


def test_who_is_disabled_or_has_another_password_is_signed_out_at_once(web: Web) -> None:
    viewer, reader = web.browser("viewer"), web.browser("reader")
    program = web.program("viewer", "view")

    with transaction(web.engine) as session:
        disable(session, find_account(session, "viewer"), web.clock())
        set_password(session, find_account(session, "reader"), kept_password())

    assert [each.get("/").status_code for each in (viewer, reader)] == [303, 303]
    assert program.get("/").status_code == 303
    assert web.browser().sign_in("viewer").status_code == 403


def test_a_form_without_the_pages_token_or_from_another_site_changes_nothing(web: Web) -> None:
    browser = web.browser("viewer")
    token = browser.csrf_token()

    missing = browser.client.post("/sign-out")
    wrong = browser.client.post("/sign-out", data={"csrf_token": "x" * 43})
    foreign = browser.client.post(
        "/sign-out", data={"csrf_token": token}, headers={"Origin": "https://evil.example"}
    )
    marked = browser.client.post(
        "/sign-out", data={"csrf_token": token}, headers={"Sec-Fetch-Site": "cross-site"}
    )

    assert [answer.status_code for answer in (missing, wrong, foreign, marked)] == [403] * 4
    assert browser.get("/").status_code == 200


def test_another_site_cannot_sign_a_browser_in(web: Web) -> None:
    form = {"name": "viewer", "password": PASSWORD}

    answer = web.browser().client.post("/sign-in", data=form, headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_sign_ins_are_in_the_audit_and_what_was_typed_is_not(web: Web) -> None:
    web.browser().sign_in("viewer", "wrong horse battery")
    web.browser().sign_in("my password in the wrong field", "x")
    web.browser("viewer")

    with transaction(web.engine) as session:
        events = session.execute(select(AuditEvent.actor, AuditEvent.action).order_by(AuditEvent.id)).all()

    assert [tuple(event) for event in events] == [
        ("viewer", "sign-in failed"),
        ("nobody", "sign-in failed"),
        ("viewer", "signed in"),
    ]


def test_sessions_that_ended_are_swept_away(web: Web) -> None:
    for _ in range(3):
        web.browser("viewer")
    web.clock.now += timedelta(days=1)
    web.browser("viewer")

    with transaction(web.engine) as session:
        assert len(session.scalars(select(WebSession)).all()) == 1
