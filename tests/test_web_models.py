"""The page of models in a real browser: figures, drift, promotion and the way back."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from db.models import AuditEvent
from db.registry import register
from db.session import reading, transaction
from lungnode.model_folder import METRICS_FILE, SHIPPED_MODEL, describe_model
from lungnode.roc import roc
from tests.browsing import DESKTOP, PHONE, needs_chromium
from tests.desk import Desk, desk, fill_weeks
from tests.model_folders import variant
from trainer.registry import keep_model

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A node whose model has judged for twelve weeks, and a candidate."""
    folder = tmp_path_factory.mktemp("desk")
    with desk(folder) as opened:
        fill_weeks(opened.web, describe_model(SHIPPED_MODEL).digest)
        add_candidate(opened, folder / "made")
        yield opened


def add_candidate(opened: Desk, made: Path) -> None:
    variant(made, 0.4, version="2")
    chance = np.random.default_rng(0)
    labels = np.arange(400) % 3 == 0
    curve = roc(chance.normal(1.8 * labels), labels)
    chosen = int(np.argmin(np.abs(curve.thresholds - 0.9)))
    point = {"sens": curve.sensitivity[chosen], "spe": 1 - curve.false_positive_rate[chosen]}
    figures = {"n": 400, "groups": 400, "auc": curve.area, **point, "roc": curve.points()}
    (made / METRICS_FILE).write_text(json.dumps({"evaluations": {"a test set of phantoms": figures}}))
    info, path = keep_model(made, opened.web.node.settings.models)
    with transaction(opened.web.engine) as session:
        register(session, info, path, opened.web.clock())


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, True), (PHONE, False)])
def test_the_page_can_be_used_by_everybody_at_every_width(
    opened: Desk, size: tuple[int, int], dark: bool
) -> None:
    with opened.signed_in("viewer", size, dark=dark) as page:
        page.open("/models").check()
        width = page.page.evaluate("document.documentElement.scrollWidth")
        assert page.page.get_by_text("Promote …").count() == 0

    assert width <= size[0]


def test_figures_are_side_by_side_and_drift_is_seen_where_it_is(opened: Desk) -> None:
    page = opened.admin.open("/models").page
    opened.admin.picture("models")
    page.evaluate("document.getElementById('drift').scrollIntoView()")
    opened.admin.picture("drift")

    rows = page.locator("section", has=page.locator("#known")).locator("tbody tr")
    assert [row.split()[0] for row in rows.locator("strong").all_inner_texts()] == [
        "lungnode-resnet50-" + describe_model(SHIPPED_MODEL).version,
        "candidate-2",
    ]
    changed = page.get_by_role("row", name="CT2").locator("td")
    assert [cell.split()[-1] for cell in changed.all_inner_texts()] == [
        "changed",
        "stable",
        "stable",
        "stable",
    ]
    assert "stable" in page.locator(".wide-gap").inner_text()
    assert page.get_by_role(
        "img", name=re.compile(r"candidate-2: sensitivity 0\.\d\d, specificity 0\.\d\d")
    ).is_visible()
    assert page.get_by_role("img", name="ROC curves on labelled studies").is_visible()
    page.get_by_role("link", name="48 weeks").click()
    expect(page.get_by_role("link", name="48 weeks")).to_have_attribute("aria-current", "true")
    opened.admin.check()


def test_a_candidate_runs_in_the_shadow_is_promoted_with_a_reason_and_taken_back(opened: Desk) -> None:
    page = opened.admin.open("/models").page
    page.get_by_text("Promote …").click()
    page.get_by_role("button", name="Put into the shadow").click()
    expect(page.locator("#shadow")).to_have_text("candidate-2")
    page.wait_for_load_state()  # before its scripts are there, a form is sent as a page
    page.get_by_text("Promote …").click()
    page.get_by_label("Reason").fill("the test of this page")
    page.get_by_role("button", name="Promote").click()
    page.locator("#confirm").get_by_role("button", name="Promote").click()
    expect(page.locator("#jobs")).to_contain_text("is being measured")
    expect(page.locator("#jobs")).to_contain_text("candidate-2 is in use now", timeout=120_000)
    page.get_by_role("link", name="Show the models again").click()
    expect(page.locator("#used")).to_have_text("candidate-2")
    page.wait_for_load_state()
    page.get_by_text("Roll back to").click()
    page.get_by_label("Why").fill("it was a test")
    page.get_by_role("button", name="Roll back").click()
    page.locator("#confirm").get_by_role("button", name="Roll back").click()
    expect(page.locator("#used")).to_contain_text("lungnode-resnet50")

    opened.admin.check()
    with reading(opened.web.engine) as session:
        event = session.query(AuditEvent).filter_by(action="model rolled back").one()
        assert (event.actor, event.details["reason"]) == ("admin", "it was a test")
