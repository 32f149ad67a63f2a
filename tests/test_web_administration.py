"""The pages of audit, users and one's own account in a real browser."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from playwright.sync_api import expect

from daemon.web.audited import note
from db.audit_chain import chain
from db.models import AuditEvent
from db.session import transaction
from lungnode.audit.message import Source
from tests.browsing import DESKTOP, PHONE, needs_chromium
from tests.desk import Desk, desk
from tests.web import PASSWORD

pytestmark = needs_chromium
COUNT = 60  # events: more than a page


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A node in which people have done things, some of which failed."""
    with desk(tmp_path_factory.mktemp("desk")) as opened:
        web, now = opened.web, opened.web.clock()
        with transaction(web.engine) as session:
            for number in range(COUNT):
                at = now - timedelta(minutes=COUNT - number)
                note(session, "reader", "study viewed", f"1.2.840.99999.77.{number}", at)
            note(session, "", "sign-in failed", "192.0.2.44", now)
        with transaction(web.engine) as session:
            chain(session, Source("node1", "LUNGNODE"), now)
        yield opened


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, True), (PHONE, False)])
@pytest.mark.parametrize("path", ["/audit", "/users", "/users/reader", "/account"])
def test_the_pages_can_be_used_by_everybody_at_every_width(
    opened: Desk, path: str, size: tuple[int, int], dark: bool
) -> None:
    page = opened.admin if size == DESKTOP else opened.phone
    page.page.emulate_media(color_scheme="dark" if dark else "light")
    page.open(path).check()

    assert page.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.page.emulate_media(color_scheme="light")


def test_the_trail_is_filtered_paged_and_exported(opened: Desk) -> None:
    page = opened.admin.open("/audit").page
    opened.admin.picture("audit")
    page.get_by_label("Action").select_option("study viewed")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/audit?action=study+viewed")
    rows = page.locator(".events tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    page.wait_for_url(re.compile("after="))
    expect(rows).to_have_count(COUNT - 50)
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Export").click()
    lines = [json.loads(line) for line in waiting.value.path().read_text().splitlines()]

    assert [line["action"] for line in lines] == ["study viewed"] * COUNT
    assert lines[0]["message"].startswith("<")
    page.goto(f"{opened.base}/audit?failed=true")
    expect(rows).to_have_count(1)
    opened.admin.check()


def test_the_chain_is_verified_and_a_change_is_found(opened: Desk) -> None:
    page = opened.admin.open("/audit").page
    page.get_by_role("button", name="Verify all of it").click()
    expect(page.locator("#verified")).to_contain_text("events in 1 batch,", timeout=60_000)
    page.wait_for_load_state()  # before its scripts are there, a form is sent as a page
    with transaction(opened.web.engine) as session:
        event = session.query(AuditEvent).filter_by(subject="1.2.840.99999.77.5").one()
        event.actor = "nobody"
    page.get_by_role("button", name="Verify all of it").click()

    expect(page.locator("#verified")).to_contain_text("The trail is not whole.", timeout=60_000)
    expect(page.locator("#verified")).to_contain_text(f"Event {event.id} of batch 1 was changed.")


def test_an_account_is_added_gets_a_role_and_a_token_that_is_shown_once(opened: Desk) -> None:
    page = opened.admin.open("/users").page
    page.get_by_label("Name").fill("ada")
    page.get_by_label("viewer").check()
    page.get_by_label("Password").fill("a long enough one")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("link", name="ada").click()
    page.wait_for_url("**/users/ada")
    opened.admin.picture("user")
    page.get_by_label("reader").check()
    page.get_by_role("button", name="Set role").click()
    expect(page.get_by_label("upload have files classified")).to_be_visible()
    page.wait_for_load_state()
    page.get_by_label("What uses it").fill("RIS")
    page.get_by_label("view read studies").check()
    page.get_by_role("button", name="Make the token").click()
    expect(page.locator("[data-secret] code")).to_contain_text("lungnode_")
    secret = page.locator("[data-secret] code").inner_text()
    expect(page.locator("#tokens")).to_contain_text("RIS")
    opened.admin.check()
    shown = {"Authorization": f"Bearer {secret}"}
    answer = httpx.get(f"{opened.base}/api/v1/studies", headers=shown, timeout=60)
    page.reload()

    assert answer.status_code == 200
    assert secret not in page.content()


def test_who_is_disabled_is_signed_out_and_comes_back_when_enabled(opened: Desk) -> None:
    with opened.signed_in("viewer") as viewer:
        page = opened.admin.open("/users/viewer").page
        page.get_by_role("button", name="Disable").click()
        page.locator("#confirm").get_by_role("button", name="Disable").click()
        expect(page.get_by_role("button", name="Enable")).to_be_visible()
        viewer.page.goto(f"{opened.base}/models")
        assert "/sign-in" in viewer.page.url
        page.get_by_role("button", name="Enable").click()
        expect(page.get_by_role("button", name="Disable")).to_be_visible()


def test_the_last_administrator_cannot_be_taken_away(opened: Desk) -> None:
    page = opened.admin.open("/users/admin").page
    page.get_by_label("viewer").check()
    page.get_by_role("button", name="Set role").click()

    expect(page.locator("#account [role=alert]")).to_contain_text("last administrator")


def test_ones_own_password_is_changed_by_who_knows_it(opened: Desk) -> None:
    with opened.signed_in("viewer") as viewer:
        page = viewer.open("/account").page
        for current, new in (("not the right one", "another long one"), (PASSWORD, "another long one")):
            page.get_by_label("Current password").fill(current)
            page.get_by_label("New password").fill(new)
            page.get_by_role("button", name="Change", exact=True).click()
            if current != PASSWORD:
                expect(page.get_by_role("alert")).to_contain_text("current password is wrong")
        page.wait_for_url("**/sign-in*")
        viewer.sign_in("viewer", "another long one")

        assert page.get_by_role("link", name="Users").count() == 0
        statuses = [viewer.page.request.get(f"{opened.base}{path}").status for path in ("/users", "/audit")]
        assert statuses == [403, 403]
