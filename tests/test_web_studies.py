"""The table of studies in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from benchmarks.generated import fill
from db.models import Analysis, Study
from db.session import open_engine, transaction, upgrade
from tests.browsing import DESKTOP, GUIDE_SIZE, PHONE, Tab, chromium, needs_chromium, tab
from tests.spooling import NOON
from tests.web import Web, serving

pytestmark = needs_chromium
COUNT = 130
HARMFUL = "<script>alert(1)</script>^'; DROP TABLE studies;--"
Opened = tuple[Web, str, Browser]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A web with studies of every kind, and a browser."""
    folder = tmp_path_factory.mktemp("web")
    engine = open_engine(f"sqlite:///{folder / 'lungnode.sqlite3'}")
    upgrade(engine)
    fill(engine, COUNT - 1)
    with transaction(engine) as session:
        at = {"created_at": NOON, "changed_at": NOON}
        session.add(Study(study_instance_uid="1.2.3", patient_name=HARMFUL, patient_id="<b>1</b>", **at))
    web = Web(engine, folder)
    with serving(web.app) as base, chromium() as browser:
        yield web, base, browser
    engine.dispose()


@pytest.fixture(scope="module")
def reader(opened: Opened) -> Iterator[Tab]:
    _, base, browser = opened
    with tab(browser, base) as opened_tab:
        yield opened_tab.sign_in("reader")


def names(reader: Tab) -> list[str]:
    return reader.page.locator(".who a").all_inner_texts()


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_the_table_can_be_used_by_everybody_at_every_width(
    opened: Opened, size: tuple[int, int], dark: bool
) -> None:
    _, base, browser = opened
    with tab(browser, base, size=size, dark=dark, touch=size == PHONE) as page:
        page.sign_in("viewer").open("/?verdict=positive")
        page.check()
        width = page.page.evaluate("document.documentElement.scrollWidth")

    assert width <= size[0]


def test_harmful_names_are_shown_as_they_are_written(reader: Tab) -> None:
    found = reader.open("/?patient=<script").page.locator(".who")

    assert found.count() == 1
    assert "<script>alert(1)</script>, '; DROP TABLE studies;--" in found.inner_text()
    assert "<b>1</b>" in found.inner_text()
    reader.check()


def test_what_is_searched_for_is_in_the_address_and_nothing_else(reader: Tab) -> None:
    reader.open("/").page.keyboard.press("/")
    reader.page.keyboard.type("mull")
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_url("**/?patient=mull")
    reader.page.get_by_text("More filters").click()
    reader.page.get_by_label("Verdict").select_option("negative")
    reader.page.wait_for_url("**/?patient=mull&verdict=negative")

    assert {name.partition(",")[0] for name in names(reader)} == {"Müller"}
    reader.page.get_by_role("link", name="Patient: mull").click()
    reader.page.wait_for_url("**/?verdict=negative")
    reader.check()


def test_pages_lead_on_and_back_in_any_order(reader: Tab) -> None:
    reader.open("/").page.get_by_role("columnheader", name="Patient").get_by_role("link").click()
    reader.page.wait_for_url("**/?order=patient&ascending=true")
    first = names(reader)
    reader.page.get_by_role("link", name="Next page").click()
    reader.page.wait_for_url(re.compile("after="))
    second = names(reader)
    reader.page.get_by_role("link", name="Previous page").click()
    reader.page.wait_for_url(re.compile("before=|ascending=true$"))

    assert (len(first), names(reader), set(first) & set(second)) == (50, first, set())
    expect(reader.page.get_by_role("columnheader", name="Patient")).to_have_attribute(
        "aria-sort", "ascending"
    )
    assert reader.wrong == []


def test_states_change_while_somebody_looks(opened: Opened, reader: Tab) -> None:
    web, _, _ = opened
    line = reader.open("/?patient=<script").page.locator("tbody tr")
    expect(line).to_contain_text("receiving")

    with transaction(web.engine) as session:
        study = session.query(Study).filter_by(study_instance_uid="1.2.3").one()
        study.state = "complete"
        study.analyses.append(Analysis(revision=1, state="running", created_at=NOON, due_at=NOON, priority=5))

    expect(line).to_contain_text("analysing", timeout=30_000)


def test_keys_walk_through_the_table(reader: Tab) -> None:
    reader.open("/")
    for key in "jjk":
        reader.page.keyboard.press(key)
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_url("**/studies/**")


def test_an_export_tells_how_far_it_is_and_is_saved(reader: Tab, tmp_path: Path) -> None:
    reader.open("/?verdict=positive")
    count = int(reader.page.locator("#found").inner_text().split()[0])
    with reader.page.expect_download() as waiting:
        reader.page.get_by_role("link", name="CSV").click()
    waiting.value.save_as(tmp_path / "results.csv")

    assert len((tmp_path / "results.csv").read_text().splitlines()) == count + 1
    expect(reader.page.locator("#exporting output")).to_contain_text(f"{count} of {count} rows")
    reader.check()


def test_the_guide_shows_the_table(opened: Opened) -> None:
    web, base, browser = opened
    with transaction(web.engine) as session:
        for study in session.query(Study):
            study.patient_name, study.patient_id = f"Phantom^{study.id:04}", f"PHANTOM-{study.id:04}"

    with tab(browser, base, size=GUIDE_SIZE) as page:
        page.sign_in("reader").open("/").picture("studies")
        page.check()
