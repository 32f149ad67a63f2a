"""The page of uploads in a real browser: pictures and studies are dropped, and answered on the same page."""

import io
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from pydicom import dcmread
from sqlalchemy import select

from db.models import Upload
from db.session import reading
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.pixels import lung_gray
from tests.browsing import DESKTOP, PHONE, Tab, chromium, needs_chromium, tab
from tests.whole_node import WholeNode, whole_node

pytestmark = needs_chromium
Opened = tuple[WholeNode, Browser, PhantomStudy]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A node with a warm model, a browser, and a phantom to upload."""
    study = phantom_study(tmp_path_factory.mktemp("study"), 12)
    with whole_node(tmp_path_factory.mktemp("node")) as node, chromium() as browser:
        node.analyst.warm_up()
        yield node, browser, study


@pytest.fixture(scope="module")
def signed_in(opened: Opened) -> Iterator[Tab]:
    node, browser, _ = opened
    with tab(browser, node.base) as opened_tab:
        yield opened_tab.sign_in("reader")


@pytest.fixture
def page(signed_in: Tab) -> Tab:
    signed_in.wrong.clear()
    return signed_in.open("/upload")


@pytest.fixture
def jpeg(opened: Opened, tmp_path: Path) -> Path:
    """A slice with a lesion, as a picture."""
    study = opened[2]
    gray = lung_gray(dcmread(study.paths[study.lesion_slices[len(study.lesion_slices) // 2]]))
    path = tmp_path / "a slice.jpg"
    Image.fromarray(gray).save(path, quality=90)
    return path


def zipped(study: PhantomStudy, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for each in study.paths:
            archive.write(each, f"export/{each.name}")
    return path


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_picture_that_is_dropped_is_answered_with_its_heatmap_at_every_width(
    opened: Opened, jpeg: Path, size: tuple[int, int]
) -> None:
    node, browser, _ = opened
    with tab(browser, node.base, size=size, touch=size == PHONE) as page:
        drop(page.sign_in("reader").open("/upload"), jpeg)
        heatmap = page.page.get_by_role("img", name="Heatmap, probability")
        expect(heatmap).to_be_visible()
        expect(page.page.locator("#answer")).to_contain_text("a slice.jpg")
        expect(page.page.get_by_role("img", name="on a scale from 0 to 1")).to_be_visible()
        page.check()
        page.page.emulate_media(color_scheme="dark")
        page.check()
        width = page.page.evaluate("document.documentElement.scrollWidth")

    assert width == size[0]


def test_a_study_in_a_zip_is_one_answer_whose_slices_are_looked_through(
    opened: Opened, page: Tab, tmp_path: Path
) -> None:
    page.page.locator("#files").set_input_files(zipped(opened[2], tmp_path / "study.zip"))

    strip = page.page.get_by_role("group", name="Slices with a heatmap")
    expect(strip).to_be_visible()
    expect(page.page.locator("#answer")).to_contain_text("12 axial slices")
    page.page.set_viewport_size({"width": 1000, "height": 640})
    page.page.wait_for_load_state("networkidle")
    page.picture("upload")
    page.page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    before = page.page.locator(".shown img").get_attribute("src")
    strip.get_by_role("button", pressed=False).first.click()

    assert page.page.locator(".shown img").get_attribute("src") != before
    page.check()


def test_an_upload_is_temporary_until_it_is_kept_and_deleted_when_that_is_asked_for(
    opened: Opened, page: Tab, jpeg: Path
) -> None:
    node, _, _ = opened
    page.page.locator("#files").set_input_files(jpeg)
    expect(page.page.locator("main")).to_contain_text("is deleted after an hour, or when you sign out")
    page.page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.page.locator("#keeping")).to_contain_text("Kept until you delete it")
    key = page.page.url.rpartition("/")[2]
    with reading(node.web.engine) as session:
        assert session.scalars(select(Upload.expires_at).where(Upload.key == key)).one() is None
    assert page.wrong == []  # the page of a deleted upload may renew itself once more, and is not found

    row = page.page.locator("#uploads tr[aria-current]")
    row.get_by_role("button", name="Delete").click()
    page.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.page.wait_for_url("**/upload")
    with reading(node.web.engine) as session:
        assert session.scalar(select(Upload).where(Upload.key == key)) is None


def test_what_is_no_image_is_refused_in_words(page: Tab) -> None:
    page.page.locator("#files").set_input_files(
        {"name": "<b>letter</b>.txt", "mimeType": "text/plain", "buffer": b"Dear colleague"}
    )

    expect(page.page.get_by_role("alert")).to_have_text(
        "<b>letter</b>.txt is neither DICOM, JPEG, PNG nor a zip of those."
    )
    assert [each for each in page.wrong if "409" not in each] == []


def test_a_picture_that_is_damaged_says_so_in_its_answer(page: Tab) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(buffer, "PNG")
    page.page.locator("#files").set_input_files(
        {"name": "half.png", "mimeType": "image/png", "buffer": buffer.getvalue()[:60]}
    )

    expect(page.page.locator("#answer .note.bad")).to_contain_text("damaged or truncated")
    page.check()


def drop(page: Tab, path: Path) -> None:
    """Drop a file on the field, as a mouse does."""
    transfer = page.page.evaluate_handle(
        """([name, content]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
            transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [path.name, b64encode(path.read_bytes()).decode()],
    )
    page.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
