"""The page of a study in a real browser: what was sent by C-STORE is looked at, judged and sent on."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect
from sqlalchemy import select

from db.models import AuditEvent, Feedback, Label
from db.session import reading
from lungnode.phantom import Patient
from tests.browsing import DESKTOP, GUIDE_SIZE, PHONE, Tab, chromium, needs_chromium, tab
from tests.nodes import wait_for
from tests.whole_node import WholeNode, not_registered, whole_node

pytestmark = needs_chromium
HARMFUL = Patient(name="<script>alert(1)</script>^Eve", patient_id="'; DROP TABLE studies;--")
SLICES = 24
Opened = tuple[WholeNode, Browser, str]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A node that analysed a phantom whose report the PACS refused, and a browser."""
    with whole_node(tmp_path_factory.mktemp("node")) as node, chromium() as browser:
        node.pacs.answers = [not_registered()]
        study = node.receive(SLICES, size=512)
        yield node, browser, f"/studies/{study.study_instance_uid}"


@pytest.fixture(scope="module")
def signed_in(opened: Opened) -> Iterator[Tab]:
    node, browser, _ = opened
    with tab(browser, node.base) as opened_tab:
        yield opened_tab.sign_in("admin")


@pytest.fixture
def page(opened: Opened, signed_in: Tab) -> Tab:
    return signed_in.open(opened[2])


def course(page: Tab) -> Locator:
    return page.page.get_by_role("slider", name="Slice")


def at(page: Tab) -> int:
    return int(course(page).get_attribute("aria-valuenow") or 0)


def shown(page: Tab) -> Locator:
    return page.page.locator("#slice img")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_can_be_used_by_everybody_at_every_width(opened: Opened, size: tuple[int, int]) -> None:
    node, browser, address = opened
    with tab(browser, node.base, size=size, touch=size == PHONE) as page:
        page.sign_in("reader").open(address)
        page.check()
        page.page.emulate_media(color_scheme="dark")
        page.check()
        width = page.page.evaluate("document.documentElement.scrollWidth")
        seen = page.page.evaluate("document.querySelector('#slice img').naturalWidth")

    assert (width, seen) == (size[0], 512)


def test_verdict_reasons_phases_and_research_use_are_told(page: Tab) -> None:
    expect(page.page.locator("#verdict")).to_contain_text("positive")
    expect(page.page.locator("#verdict")).to_contain_text("Research use only")
    expect(page.page.get_by_role("img", name="on a scale from 0 to 1")).to_be_visible()
    expect(page.page.locator(".reasons")).to_contain_text(f"{SLICES} axial slices")
    expect(page.page.locator(".phases")).to_contain_text("slices classified")


def test_wheel_keys_and_the_course_scroll_through_the_slices(page: Tab) -> None:
    first = at(page)
    page.page.locator("#stage").hover()
    page.page.mouse.wheel(0, 100)
    expect(course(page)).to_have_attribute("aria-valuenow", str(first + 1))
    page.page.locator("#stage").click()
    moved = []
    for key in ("ArrowDown", "ArrowUp", "End", "PageUp", "Home", "PageDown"):
        page.page.keyboard.press(key)
        moved.append(at(page))
    box = course(page).bounding_box()
    assert box is not None
    page.page.mouse.click(box["x"] + box["width"] - 2, box["y"] + 20)

    assert moved == [first + 2, first + 1, SLICES, SLICES - 10, 1, 11]
    assert at(page) == SLICES
    expect(shown(page)).to_have_attribute("alt", f"Slice {SLICES} of {SLICES}")
    assert page.wrong == []


def test_a_drag_sideways_scrolls_as_well(page: Tab) -> None:
    first, box = at(page), page.page.locator("#stage").bounding_box()
    assert box is not None
    page.page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 250, box["y"] + 200)
    page.page.mouse.up()

    assert at(page) > first


def test_a_finger_scrolls_sideways(opened: Opened) -> None:
    node, browser, address = opened
    with tab(browser, node.base, size=PHONE, touch=True) as page:
        page.sign_in("reader").open(address)
        page.page.locator("#stage").scroll_into_view_if_needed()
        first, box = at(page), page.page.locator("#stage").bounding_box()
        assert box is not None
        x, y = box["x"] + 200, box["y"] + 100
        finger = page.page.context.new_cdp_session(page.page)
        for kind, points in (
            ("touchStart", [x]),
            ("touchMove", [x - 60]),
            ("touchMove", [x - 120]),
            ("touchEnd", []),
        ):
            told = {"type": kind, "touchPoints": [{"x": each, "y": y} for each in points]}
            finger.send("Input.dispatchTouchEvent", told)

        wait_for(lambda: at(page) < first, what="an earlier slice")


def test_neighbours_are_there_before_they_are_asked_for(page: Tab) -> None:
    def asked(what: str) -> bool:
        names = page.page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
        return sum(what in each for each in names) > 10

    wait_for(lambda: asked("/rendered?"), what="slices")
    wait_for(lambda: asked("/heatmaps/"), what="heatmaps")


def test_the_window_and_the_heatmap_change_what_is_seen(page: Tab) -> None:
    heatmap = page.page.locator("#heatmap img")
    page.page.get_by_role("button", name="Mediastinum").click()
    expect(shown(page)).to_have_attribute("src", re.compile("window=40,400"))
    expect(heatmap).to_have_count(1)
    page.page.get_by_label("Heatmap").fill("100")
    whole = page.page.evaluate("getComputedStyle(document.getElementById('heatmap')).opacity")
    page.page.get_by_label("Heatmap").fill("0")

    expect(heatmap).to_have_count(0)
    assert whole == "1"
    page.check()


def test_the_guide_shows_the_page(opened: Opened) -> None:
    node, browser, address = opened
    with tab(browser, node.base, size=GUIDE_SIZE) as page:
        page.sign_in("admin").open(address).picture("study")
        scroll_to(page, "Deliveries").picture("deliveries")
        page.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        scroll_to(page, "Slices").picture("viewer")
        page.page.get_by_label("Disagree").check()
        page.page.get_by_label("Remark").fill("Old scars, unchanged since the last examination.")
        scroll_to(page, "What readers say").picture("feedback")


def scroll_to(page: Tab, title: str) -> Tab:
    page.page.get_by_role("heading", name=title).evaluate("each => each.scrollIntoView()")
    return page


def test_the_report_is_read_as_text(page: Tab) -> None:
    page.page.get_by_text("Report as text").click()

    expect(page.page.locator("#report")).to_contain_text("Probability: ")
    expect(page.page.locator("#report")).to_contain_text("Presence of property: Present")
    page.check()


def test_the_way_back_leads_to_the_list_as_it_was(opened: Opened, signed_in: Tab) -> None:
    signed_in.open("/?verdict=positive&limit=20").page.locator(".who a").first.click()
    signed_in.page.wait_for_url(f"**{opened[2]}")
    signed_in.open(f"{opened[2]}?revision=1").page.get_by_role("link", name="← Studies").click()

    signed_in.page.wait_for_url("**/?verdict=positive&limit=20")


def test_what_a_reader_says_is_kept_as_a_label_and_nothing_sent_changes(opened: Opened, page: Tab) -> None:
    node, _, _ = opened
    sent = len(node.pacs.stored)
    page.page.get_by_label("Disagree").check()
    expect(page.page.get_by_label("The study shows instead")).to_have_value("negative")
    page.page.get_by_label("Remark").fill("<b>old</b> scars")
    page.page.get_by_role("button", name="Send", exact=True).click()

    voice = page.page.locator("#said-by-readers")
    expect(voice).to_contain_text("admin disagrees negative")
    expect(voice).to_contain_text("<b>old</b> scars")
    expect(page.page.locator("#feedback")).to_contain_text("What was sent is not changed")
    page.check()
    with reading(node.web.engine) as session:
        said = session.scalars(select(Feedback)).one()
        label = session.scalars(select(Label)).one()
    assert (said.agreement, said.value) == ("disagree", "negative")
    assert (label.value, label.reader) == ("negative", "admin")
    assert len(node.pacs.stored) == sent


def test_a_refused_delivery_tells_why_and_is_sent_again(opened: Opened, page: Tab) -> None:
    node, _, address = opened
    deliveries = page.page.locator("#deliveries")
    expect(deliveries).to_contain_text("Station LUNGNODE is not registered")
    expect(deliveries).to_contain_text("Let the peer allow our AE title to store.")
    page.page.get_by_role("button", name="Send again to PACS: report").click()
    expect(deliveries).to_contain_text("pending")
    node.work()

    page.open(address)
    expect(deliveries.get_by_text("stored", exact=True)).to_have_count(2)
    expect(page.page.get_by_role("button", name="Send again")).to_have_count(0)
    assert page.wrong == []


def follow(page: Tab, node: WholeNode, heatmaps: str) -> None:
    """Have the revision analysed that the page shows as queued, and wait until the page shows its result."""
    expect(page.page.locator("#viewer")).to_have_attribute("data-heatmaps", "")
    expect(page.page.locator("#verdict")).to_contain_text("said positive")
    node.work()
    # As who comes back to the page; it may be loading itself again, and then this is repeated.
    page.page.dispatch_event("body", "visibilitychange")
    expect(page.page.locator("#viewer")).to_have_attribute("data-heatmaps", heatmaps)
    page.page.wait_for_load_state()  # only its scripts fetch a report that is opened


def test_a_study_that_is_analysed_again_shows_its_new_revision_by_itself(opened: Opened, page: Tab) -> None:
    node, _, address = opened
    page.page.get_by_role("button", name="Analyse again").click()
    page.page.get_by_role("dialog").get_by_role("button", name="Analyse again").click()
    follow(page, node, f"{address}/revisions/2/heatmaps/")

    expect(page.page.locator("#history tbody tr")).to_have_count(2)
    page.open(f"{address}?revision=1")
    expect(page.page.locator("main")).to_contain_text("This is revision 1; a later one counts.")
    page.check()


def test_who_disagrees_sends_a_corrected_report(opened: Opened, page: Tab) -> None:
    node, _, address = opened
    sent = len(node.pacs.stored)
    correct = page.page.get_by_role("button", name="Send a corrected report")
    expect(correct).to_have_count(0)  # what was said is about revision 1
    page.page.get_by_label("Disagree").check()
    page.page.get_by_label("Remark").fill("Old scars.")
    page.page.get_by_role("button", name="Replace what I said").click()
    correct.click()
    dialog = page.page.get_by_role("dialog")
    expect(dialog).to_contain_text("states “negative” as seen by admin")
    dialog.get_by_role("button", name="Send the corrected report").click()
    follow(page, node, f"{address}/revisions/3/heatmaps/")

    expect(page.page.locator("#corrected")).to_contain_text("negative, says reader admin")
    expect(page.page.locator("#history")).to_contain_text("report corrected by admin: negative")
    expect(correct).to_have_count(0)
    page.page.get_by_text("Report as text").click()
    expect(page.page.locator("#report")).to_contain_text(
        "Corrected: No signs of COVID-19 pneumonia seen by reader admin."
    )
    page.check()
    assert len(node.pacs.stored) == sent + 1  # the report alone


def test_a_study_without_a_verdict_says_why_and_shows_harmful_names_as_they_are_written(
    opened: Opened, signed_in: Tab
) -> None:
    node, _, _ = opened
    study = node.receive(4, patient=HARMFUL)

    signed_in.open(f"/studies/{study.study_instance_uid}")

    expect(signed_in.page.locator("h1")).to_have_text("<script>alert(1)</script>, Eve")
    expect(signed_in.page.locator(".patient")).to_contain_text("'; DROP TABLE studies;--")
    expect(signed_in.page.locator("#verdict")).to_contain_text("no chest CT")
    expect(signed_in.page.locator("#verdict .note")).not_to_be_empty()
    expect(signed_in.page.locator("#viewer")).to_contain_text("No slice has a probability")
    signed_in.page.get_by_label("Negative").check()
    signed_in.page.get_by_role("button", name="Send", exact=True).click()
    expect(signed_in.page.locator("#said-by-readers")).to_contain_text("admin disagrees negative")
    signed_in.check()


def test_who_may_only_look_is_offered_nothing_else_and_the_audit_tells_of_it(opened: Opened) -> None:
    node, browser, address = opened
    with tab(browser, node.base) as page:
        page.sign_in("viewer").open(address)

        expect(page.page.locator("#feedback")).to_have_count(0)
        expect(page.page.get_by_role("button", name="again")).to_have_count(0)
    with reading(node.web.engine) as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "study viewed")).all()
    assert {each.actor for each in events} >= {"viewer", "admin"}
