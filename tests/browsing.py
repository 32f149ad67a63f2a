"""A real browser on a web application: it notes what its console, a policy or the network complains of."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect, sync_playwright

from tests.web import PASSWORD

CHROMIUM: Final = shutil.which("chromium") or ""
_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP: Final = (1440, 900)
PHONE: Final = (390, 844)
# Of pictures for docs/guide.md, which GUIDE=docs/guide keeps; they show phantoms only.
GUIDE_SIZE: Final = (1200, 760)
_LARGEST: Final = 200_000  # bytes of one
_PATIENCE_MS: Final = 30_000  # of a machine that others use as well
_SERIOUS: Final = ("serious", "critical")
_FAILED: Final = 400

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="Chromium is absent: apt install chromium")


@dataclass
class Tab:
    """A page of a browser, and what was wrong with it."""

    page: Page
    base: str
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen."""
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", self._see)
        self.page.on("response", self._answered)

    def sign_in(self, name: str, password: str = PASSWORD) -> "Tab":
        """Fill the form."""
        self.page.goto(f"{self.base}/sign-in")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.base}/")
        return self

    def open(self, path: str) -> "Tab":
        """Open a page and wait until it is quiet."""
        self.page.goto(f"{self.base}{path}")
        self.page.wait_for_load_state("networkidle")
        return self

    def check(self) -> None:
        """See that nothing is wrong, for people who do not see or use no mouse as well."""
        self.page.wait_for_load_state()  # half a page has no headings for its parts
        found = Axe().run(self.page).response["violations"]
        bad = [f"{each['id']}: {_where(each)}" for each in found if each["impact"] in _SERIOUS]
        assert (self.wrong, bad) == ([], [])

    def show(self, folder: Path, name: str, *, whole: bool = False) -> None:
        """Keep a picture of the page."""
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=whole, animations="disabled")

    def picture(self, name: str, *, whole: bool = False) -> None:
        """Take a picture for the guide; it is kept when GUIDE names a folder."""
        shot = self.page.screenshot(full_page=whole, animations="disabled")
        data = BytesIO()
        Image.open(BytesIO(shot)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            data, "PNG", optimize=True
        )
        assert len(data.getvalue()) < _LARGEST
        if folder := os.environ.get("GUIDE"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{name}.png").write_bytes(data.getvalue())

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _see(self, request: Request) -> None:
        if not request.url.startswith((self.base, "blob:", "data:")):
            self.wrong.append(f"another host was asked: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= _FAILED:
            self.wrong.append(f"{response.status}: {response.url}")


def _where(violation: dict[str, Any]) -> list[Any]:
    return [node["target"] for node in violation["nodes"]]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium while the block runs."""
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def tab(
    browser: Browser, base: str, *, size: tuple[int, int] = DESKTOP, dark: bool = False, touch: bool = False
) -> Iterator[Tab]:
    """Open a tab of its own, without cookies, while the block runs."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        has_touch=touch,
        is_mobile=touch,
        timezone_id="Europe/Berlin",
        reduced_motion="reduce",
        accept_downloads=True,
    )
    context.set_default_timeout(_PATIENCE_MS)
    yield Tab(context.new_page(), base)
    context.close()
