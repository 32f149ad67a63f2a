"""The page of operations in a real browser."""

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made at import

from daemon.web.alerts.conditions import STORE_AWAY, Facts, Wrong
from daemon.web.charts import nice
from daemon.web.disks import disks
from daemon.web.pages.attention import STEPS, concerns
from daemon.web.pages.trouble import Known, all_trouble
from db.alerts import note_alerts
from db.models import Delivery
from db.numbers import Numbers
from db.session import reading, transaction
from lungnode.pulse import Pulse, file_of
from lungnode.settings import (
    DicomDestination,
    ReceiverSettings,
    ReceiverTls,
    Settings,
    StoreSettings,
    WebSettings,
)
from tests.browsing import DESKTOP, GUIDE_SIZE, PHONE, needs_chromium
from tests.certificates import Authority
from tests.desk import Desk, desk, fill_day
from tests.query_peers import scripted_pacs
from tests.spooling import NOON

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A node with two destinations: one answers a C-ECHO, the other knows none."""
    limits = ReceiverSettings(disk_warn_bytes=10_000, disk_reject_bytes=5_000)
    folder = tmp_path_factory.mktemp("desk")
    with scripted_pacs(lambda _: [], Verification) as pacs, scripted_pacs(lambda _: []) as archive:
        places = tuple(
            DicomDestination(name=name, ae_title=name.upper(), host="127.0.0.1", port=peer.port)
            for name, peer in (("PACS", pacs), ("Archive", archive))
        )
        yield from _opened(folder, destinations=places, receiver=limits)


def _opened(folder: Path, **settings: Any) -> Iterator[Desk]:
    with desk(folder, **settings) as opened:
        fill_day(opened.web)
        for program in ("receive", "clerk", "worker-analysis", "worker-delivery"):
            Pulse(folder, program).beat(waiting="")
            file = file_of(folder, program).rename(folder / "health" / f"{program}-node1.json")
            # The others are not to fall silent while the tests run.
            at = time.time() + (-120 if program == "worker-analysis" else 3600)
            os.utime(file, (at, at))
        yield opened


def test_what_is_most_urgent_comes_first_with_its_next_step() -> None:
    wrong = [Wrong("disk low", "data", "3 GB are free"), Wrong("program silent", "clerk", "clerk is silent")]

    assert [each.fact for each in concerns(wrong)] == ["clerk is silent.", "3 GB are free."]
    assert all(step.words.endswith(".") for step in STEPS.values())


def test_a_store_that_is_away_needs_somebody_and_is_no_disk_of_ours(opened: Desk, tmp_path: Path) -> None:
    away = "The object store s3://studies cannot be used: no answer."
    with transaction(opened.web.engine) as session:
        note_alerts(session, [(STORE_AWAY, "s3://studies", away)], NOON)

    page = opened.web.browser("admin").get("/operations").text

    with transaction(opened.web.engine) as session:
        note_alerts(session, [], NOON)
    assert f"<strong>{away}</strong> What comes waits in the spool" in page
    settings = Settings(data=tmp_path, store=StoreSettings(url="s3://studies"))
    assert [disk.holds for disk in disks(settings)] == ["spool, data"]


@pytest.mark.parametrize(
    ("largest", "ticks"), [(0, [0, 1]), (1, [0, 1]), (7, [0, 2, 4, 6, 8]), (18, [0, 5, 10, 15, 20])]
)
def test_an_axis_has_round_values_and_no_more_than_five(largest: float, ticks: list[float]) -> None:
    assert nice(largest) == ticks


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, True), (PHONE, False)])
def test_the_page_can_be_used_by_everybody_at_every_width(
    opened: Desk, size: tuple[int, int], dark: bool
) -> None:
    with opened.signed_in("admin", size, dark=dark) as page:
        page.open("/operations").check()
        width = page.page.evaluate("document.documentElement.scrollWidth")

    assert width <= size[0]


def test_the_page_says_what_needs_somebody_and_how_the_queue_stands(opened: Desk) -> None:
    page = opened.admin.open("/operations").page

    assert [each.split(".")[0] for each in page.locator(".concerns strong").all_inner_texts()] == [
        page.locator(".concerns strong").first.inner_text().split(".")[0],
        "2 deliveries to Archive are dead or refused",
        "1 analysis is quarantined",
    ]
    expect(page.locator(".concerns strong").first).to_contain_text("gave no sign of life")
    expect(page.locator("#queue")).to_contain_text(re.compile(r"Analyses waiting\s*3"))
    expect(page.locator("#programs tbody tr")).to_have_count(4)
    assert page.get_by_role("img", name="studies analysed in 24 hours").is_visible()
    opened.admin.check()


def test_a_destination_is_asked_and_what_it_says_stays(opened: Desk) -> None:
    page = opened.admin.open("/operations").page
    opened.admin.picture("operations")
    page.get_by_role("button", name="Ask PACS").click()
    expect(page.locator("#destinations")).to_contain_text("answered")
    page.get_by_role("button", name="Ask Archive").click()

    expect(page.locator("#destinations")).to_contain_text("Destination Archive (ARCHIVE at 127.0.0.1:")
    expect(page.locator("#attention")).to_contain_text("Archive did not answer the last C-ECHO")
    opened.admin.check()


def test_dead_letters_are_retried_one_by_one_and_together(opened: Desk) -> None:
    page = opened.admin.open("/operations").page
    page.get_by_role("button", name="Retry report").first.click()
    expect(page.locator("#dead-head")).to_contain_text("Dead letters: 1")
    with reading(opened.web.engine) as session:
        row = session.query(Delivery).filter_by(state="pending").one()
    assert row.destination == "Archive"

    answer = opened.web.browser("admin").send(
        "POST", "/api/v1/deliveries/retry", json={"destination": "Archive"}
    )

    assert answer.json() == {"deliveries": 1}
    expect(page.locator("#dead-head")).to_contain_text("No dead letters")


def test_a_viewer_neither_sees_nor_opens_it(opened: Desk) -> None:
    with opened.signed_in("viewer", GUIDE_SIZE) as page:
        assert page.page.get_by_role("link", name="Operations").count() == 0
        assert page.page.goto(f"{opened.base}/operations").status == 403  # type: ignore[union-attr]


def test_a_certificate_that_ends_soon_or_cannot_be_read_needs_somebody(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ours = Authority(tmp_path).sign(expires=now + timedelta(days=9, hours=1)).certificate
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    settings = Settings(
        data=tmp_path,
        receiver=ReceiverSettings(tls=ReceiverTls(certificate=ours, authorities=ours)),
        web=WebSettings(certificate=broken, private_key=broken),
    )
    nothing = Facts(Numbers({}, {}, {}, {}, 0, 0, 0, 0), (), 10**12)

    found = concerns(all_trouble(Known(nothing, (), has_destinations=True), settings, now))

    assert [each.fact for each in found] == [
        "The certificate of the receiver expires in 9 days.",
        f"{broken} holds no certificate in PEM form.",
    ]
