import asyncio
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from daemon.web.sweeping import sweep
from daemon.web.unpacking import Unpacked
from db.models import Upload
from db.session import reading
from lungnode.errors import UnusableError
from lungnode.phantom import phantom_study
from lungnode.settings import ReceiverSettings, WebSettings
from tests.bench import OneProbability
from tests.databases import new_sqlite
from tests.nodes import embedded_broker
from tests.web import Web
from worker.hold import Node
from worker.uploads import Desk, Way

API = "/api/v1/uploads"
FORM = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web with a broker, and a worker's desk with a toy model."""
    folder = tmp_path_factory.mktemp("uploads")
    engine = new_sqlite(f"sqlite:///{folder / 'lungnode.sqlite3'}")
    limits = {
        "receiver": ReceiverSettings(disk_reject_bytes=0, disk_warn_bytes=0),
        "web": WebSettings(upload_bytes=3_000_000, session_s=10**6, session_idle_s=10**6),
    }
    web, stopping = Web(engine, folder / "data", limits), False
    node = Node(engine, web.node.settings, lambda: stopping, web.clock)
    model: Any = OneProbability()
    web.node.settings.data.mkdir()
    with embedded_broker(web.node.settings):
        desk = Thread(target=Desk(node, Way(), lambda: model).serve)
        desk.start()
        yield web
        stopping = True
        desk.join()
    engine.dispose()


def png(size: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size), 90, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def send(browser: Any, *files: tuple[str, bytes], wait_s: int = 30) -> Any:
    return browser.send("POST", f"{API}?wait_s={wait_s}", files=[("files", each) for each in files])


def test_a_picture_is_answered_with_its_heatmap_in_the_same_request(web: Web) -> None:
    browser = web.browser("reader")

    answer = send(browser, ("slice.png", png()))

    document = answer.json()
    (item,) = document["result"]["items"]
    assert (answer.status_code, document["state"], item["verdict"]) == (201, "done", "positive")
    assert (document["name"], item["path"]) == ("slice.png", "slice.png")
    heatmap = browser.get(f"{answer.headers['location']}/heatmaps/{item['slices'][0]['heatmap']}")
    with Image.open(io.BytesIO(heatmap.content)) as shown:
        assert shown.size == (64, 64)


def test_a_zip_of_a_study_is_one_item_whatever_lies_beside_it(web: Web, tmp_path: Path) -> None:
    paths = phantom_study(tmp_path, 16, size=256).paths
    members = {f"export/IM{number}": path.read_bytes() for number, path in enumerate(paths)}
    members |= {"export/DICOMDIR": b"x", "README.TXT": b"viewer", "__MACOSX/._IM1": png()}

    answer = send(web.browser("reader"), ("study.zip", zipped(members)))

    (item,) = answer.json()["result"]["items"]
    assert (answer.json()["files"], item["kind"], len(item["slices"]) > 5) == (16, "study", True)


def test_a_program_uploads_with_a_token_and_asks_until_it_is_done(web: Web) -> None:
    program = web.program("reader", "upload")

    made = program.post(API, files=[("files", ("a.png", png())), ("files", ("b.png", png()))])
    done = program.get(f"{made.headers['location']}?wait_s=30").json()

    assert (done["state"], len(done["result"]["items"])) == ("done", 2)


def test_nobody_sees_the_uploads_of_others(web: Web) -> None:
    where = send(web.browser("reader"), ("slice.png", png())).headers["location"]

    other = web.browser("admin")

    assert other.get(where).status_code == 404
    assert other.get(f"{where}/heatmaps/0001-0001.png").status_code == 404
    assert other.send("DELETE", where).status_code == 404
    assert other.get(API).json()["uploads"] == []


def keys(web: Web) -> set[str]:
    with reading(web.engine) as session:
        found = set(session.scalars(select(Upload.key)))
    folder = web.node.settings.uploads
    assert {path.name for path in folder.iterdir()} == found  # rows and folders go together
    return found


def test_an_upload_goes_with_its_session_or_after_an_hour_unless_it_is_kept(web: Web) -> None:
    staying, leaving = web.browser("reader"), web.browser("reader")
    mine, kept, left = (
        send(browser, ("x.png", png())).json()["key"] for browser in (staying, staying, leaving)
    )
    staying.send("PUT", f"{API}/{kept}/kept", json={"kept": True})
    leaving.client.post("/sign-out", data={"csrf_token": leaving.csrf_token()})

    sweep(web.node, web.clock())
    after_sign_out = keys(web)
    web.clock.pass_s(3601)
    sweep(web.node, web.clock())
    after_an_hour = keys(web)

    assert {mine, kept} <= after_sign_out
    assert left not in after_sign_out
    assert kept in after_an_hour
    assert mine not in after_an_hour
    assert staying.send("DELETE", f"{API}/{kept}").status_code == 204
    assert kept not in keys(web)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.txt", b"hello", "neither DICOM, JPEG, PNG nor a zip"),
        ("empty.png", b"", "neither"),
        ("page.html", b"<script>alert(1)</script>", "neither"),
        ("empty.zip", zipped({"a.txt": b"x"}), "holds no DICOM"),
        ("nested.zip", zipped({"inner.zip": zipped({"a.png": png()})}), "holds no DICOM"),
        ("damaged.zip", zipped({"a.png": png()})[:-30], "damaged zip"),
        ("path.zip", zipped({"../../etc/cron.d/a.png": png()}), "leads out of its folder"),
        ("windows.zip", zipped({"..\\..\\a.png": png()}), "leads out of its folder"),
        ("root.zip", zipped({"/etc/a.png": png()}), "leads out of its folder"),
        ("bomb.zip", zipped({"a.png": png() + bytes(40_000_000)}), "grow too much"),
        ("bombs.zip", zipped({f"{n}.png": png() + bytes(900_000) for n in range(9)}), "too large"),
    ],
)
def test_what_is_no_image_or_a_trick_is_refused_and_leaves_nothing(
    web: Web, name: str, content: bytes, words: str
) -> None:
    before = keys(web)

    answer = send(web.browser("reader"), (name, content))

    assert (answer.status_code, words in answer.json()["detail"]) == (409, True), answer.text
    assert keys(web) == before


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")

    with pytest.raises(UnusableError, match="symbolic link"):
        Unpacked(tmp_path, 10**6).take("x.zip", io.BytesIO(buffer.getvalue()))


def test_a_zip_that_lies_about_its_sizes_is_held_to_what_comes_out(tmp_path: Path) -> None:
    content = png() + bytes(3_000_000)
    honest = bytearray(zipped({"a.png": content}))
    # The sizes of the local header and of the directory. Source: APPNOTE.TXT 4.3.7 and 4.3.12.
    for at in (22, honest.rindex(b"PK\x01\x02") + 24):
        honest[at : at + 4] = struct.pack("<I", len(png()))

    with pytest.raises(UnusableError):
        Unpacked(tmp_path, 1_000_000).take("x.zip", io.BytesIO(bytes(honest)))

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1_000_000
    assert zlib.crc32(content)


def test_a_body_that_is_too_large_or_no_form_is_refused(web: Web) -> None:
    browser = web.browser("reader")
    large = send(browser, ("a.png", png() + bytes(5_000_000)))
    nothing = browser.send("POST", API, data={"files": "text"})
    other = browser.send("POST", API, json={"files": []})

    assert (large.status_code, nothing.status_code, other.status_code) == (413, 400, 400)


def sent_without_end(web: Web, headers: dict[str, str]) -> tuple[int, int]:
    """Send an upload that never ends; returns the status, and how many hundreds of kilobytes were read."""
    taken, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": FORM if taken == 1 else bytes(100_000), "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    kept = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": API, "headers": kept, "query_string": b""}
    scope |= {"scheme": "http", "server": ("testserver", 80), "client": ("192.0.2.1", 1), "root_path": ""}
    asyncio.run(web.app(scope, receive, send))
    return status, taken


def test_a_body_that_announces_no_length_is_read_to_the_limit_and_no_further(web: Web) -> None:
    before = keys(web)
    headers = {"Authorization": f"Bearer {web.token('reader', 'upload')}"}
    headers |= {"Content-Type": "multipart/form-data; boundary=x"}

    for more in ({}, {"Idempotency-Key": "endless"}):
        assert sent_without_end(web, headers | more) == (413, 41)  # 3 MB, 1 MB to spare, and the form around
    assert keys(web) == before


def test_an_upload_that_comes_again_with_its_key_is_the_same_though_its_form_differs(web: Web) -> None:
    program, before = web.program("reader", "upload"), keys(web)

    def again() -> Any:
        return program.post(API, files=[("files", ("a.png", png()))], headers={"Idempotency-Key": "again"})

    first, second = again(), again()  # each with a boundary of its own

    assert (first.status_code, second.json()["key"]) == (201, first.json()["key"])
    assert keys(web) - before == {first.json()["key"]}


def test_nothing_is_read_of_an_upload_before_it_is_known_who_sends_it(web: Web) -> None:
    before = keys(web)

    def endless() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    anybody = web.browser().client.post(
        API, content=endless(), headers={"Content-Type": "multipart/form-data"}
    )
    headers = {"Content-Type": "multipart/form-data", "Idempotency-Key": "one"}
    viewer = web.program("viewer", "view").post(API, content=endless(), headers=headers)
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # where a page's token might be
    browser = web.browser("reader").client.post(API, content=endless(), headers=form)

    assert (anybody.status_code, viewer.status_code, browser.status_code) == (401, 403, 403)
    assert keys(web) == before
