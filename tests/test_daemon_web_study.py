"""The page of a study without a browser: what it asks of the database, and in which order slices come."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine, event

from daemon.web.pages.stack import stack_of
from daemon.web.pages.story import phases_of
from db.models import Analysis, Delivery, Instance, Study
from db.session import transaction
from db.slices import StoredImage
from lungnode.gray import Box
from lungnode.shown_maps import MAPS_FILE, write_maps
from tests.spooling import NOON, ct, write
from tests.web import Web, new_web

AXIAL = (1, 0, 0, 0, 1, 0)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with new_web(tmp_path_factory.mktemp("web")) as web:
        yield web


def add(web: Web, uid: str, slices: int, revisions: int = 1) -> None:
    """Add a study that was analysed so often."""
    with transaction(web.engine) as session:
        study = Study(study_instance_uid=uid, created_at=NOON, changed_at=NOON, state="complete")
        study.instances = [instance(uid, number) for number in range(1, slices + 1)]
        for revision in range(1, revisions + 1):
            study.analyses.append(analysis(uid, slices, revision))
        session.add(study)


def instance(uid: str, number: int) -> Instance:
    values: dict[str, Any] = {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "transfer_syntax_uid": "1.2"}
    return Instance(
        series_instance_uid=f"{uid}.1",
        sop_instance_uid=f"{uid}.1.{number}",
        modality="CT",
        image_position=[0, 0, 2 * number],
        image_orientation=list(AXIAL),
        path=f"{uid}-{number}.dcm",
        size=1,
        digest=f"{uid}.{number}",
        revision=1,
        received_at=NOON,
        **values,
    )


def analysis(uid: str, slices: int, revision: int) -> Analysis:
    said = [
        {"sop_instance_uid": f"{uid}.1.{number}", "frame": None, "probability": number / slices}
        for number in range(slices, 0, -1)
    ]
    return Analysis(
        revision=revision,
        state="done",
        verdict="positive",
        probability=0.9,
        threshold=0.5,
        created_at=NOON,
        due_at=NOON,
        details={"series_instance_uid": f"{uid}.1", "choice": ["It is the only one."], "slices": said},
        phases={"wait": 5.0, "read": 1.0, "predict": 3.0},
        deliveries=[
            Delivery(destination=name, group="sr", due_at=NOON, created_at=NOON) for name in ("A", "B", "C")
        ],
    )


def statements(engine: Engine, browser: Any, address: str) -> int:
    """Count what a page asks of the database."""
    asked: list[str] = []
    listen = (engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    event.listen(*listen)
    try:
        assert browser.get(address).status_code == 200
    finally:
        event.remove(*listen)
    return len(asked)


def test_a_page_asks_as_often_whatever_a_study_holds(web: Web) -> None:
    add(web, "1.2.10", 10)
    add(web, "1.2.300", 300, revisions=4)
    browser = web.browser("reader")
    for each in ("1.2.10", "1.2.300"):
        browser.get(f"/studies/{each}")  # the audit's entry of the first look

    few, many = (statements(web.engine, browser, f"/studies/{each}") for each in ("1.2.10", "1.2.300"))

    assert many == few


def test_slices_come_from_head_to_feet_with_what_was_said_of_them() -> None:
    images = [StoredImage(f"1.{z}", 1, z, (0, 0, z), AXIAL) for z in (5, 9, 7)]
    said = [{"sop_instance_uid": "1.7", "frame": None, "probability": 0.8}]
    analysed = Analysis(details={"series_instance_uid": "1", "slices": said})

    stack = stack_of("1", images, analysed)

    assert stack.records() == [("1.9", 0, None, 0), ("1.7", 0, 0.8, 1), ("1.5", 0, None, 0)]
    assert stack.first == 1
    assert stack.outline() == "M0 100V100.0h1V20.0h1V100.0h1V100Z"


def test_slices_without_a_position_come_by_their_number() -> None:
    images = [StoredImage(f"1.{number}", 1, number, position, None) for number, position in
              ((3, None), (1, ("x",)), (2, (1, 2)))]  # fmt: skip

    assert [uid for uid, *_ in stack_of("1", images, None).records()] == ["1.1", "1.2", "1.3"]


def test_frames_are_slices_in_the_order_of_the_analysis() -> None:
    said = [{"sop_instance_uid": "1.1", "frame": frame, "probability": 0.5} for frame in (3, 2)]
    images = [StoredImage("1.1", 4, 1, None, None)]

    analysed = stack_of("1", images, Analysis(details={"series_instance_uid": "1", "slices": said}))

    assert analysed.records() == [("1.1", 3, 0.5, 1), ("1.1", 2, 0.5, 2)]
    assert [frame for _, frame, *_ in stack_of("1", images, None).records()] == [1, 2, 3, 4]


def test_phases_follow_each_other_and_waiting_is_none_of_them() -> None:
    waited, read, predicted = phases_of(analysis("1", 1, 1))

    assert (waited.seconds, waited.width) == (5.0, 0.0)
    assert (read.start, read.width, predicted.start, predicted.width) == (0, 25, 25, 75)


def test_a_heatmap_paints_only_what_is_active_and_is_sent_once(web: Web) -> None:
    add(web, "1.2.4", 2)
    write(ct(1, "1.2.4", Rows=8, Columns=6), _made(web.node.settings.archive / "1.2.4-1.dcm"))
    maps = [np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)]
    path = _made(web.node.settings.outputs / "1.2.4/1" / MAPS_FILE)
    write_maps(path, maps, [Box(0, 8, 0, 6), Box(0, 8, 0, 3)])
    browser = web.browser("viewer")

    answer = browser.get("/studies/1.2.4/revisions/1/heatmaps/2.png")
    again = browser.get(
        "/studies/1.2.4/revisions/1/heatmaps/2.png", headers={"If-None-Match": answer.headers["ETag"]}
    )

    alpha = np.asarray(Image.open(io.BytesIO(answer.content)))[..., 3]
    assert alpha.shape == (8, 6)
    assert (alpha[:, :3] == 255).all()
    assert not alpha[:, 3:].any()
    assert again.status_code == 304
    assert browser.get("/studies/1.2.4/revisions/1/heatmaps/3.png").status_code == 404
    assert browser.get("/studies/1.2.4/revisions/2/heatmaps/1.png").status_code == 404


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_another_series_is_shown_when_it_is_asked_for(web: Web) -> None:
    add(web, "1.2.5", 2)
    with transaction(web.engine) as session:
        study = session.query(Study).filter_by(study_instance_uid="1.2.5").one()
        other = instance("1.2.5", 9)
        other.series_instance_uid = "1.2.5.2"
        study.instances.append(other)
    browser = web.browser("viewer")

    assert "/series/1.2.5.1/instances/" in browser.get("/studies/1.2.5").text
    assert "/series/1.2.5.2/instances/" in browser.get("/studies/1.2.5?series=1.2.5.2").text
    assert "/series/1.2.5.1/instances/" in browser.get("/studies/1.2.5?series=none").text


def test_a_revision_that_never_was_is_not_found(web: Web) -> None:
    browser = web.browser("viewer")

    assert browser.get("/studies/1.2.10?revision=9").status_code == 404
    assert browser.get("/studies/1.2.99").status_code == 404
    assert browser.get("/studies/1.2.10/revisions/1/report").status_code == 404
