import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine, select

from db.accounts import add_account
from db.models import Role, Upload, UploadState
from db.session import transaction
from lungnode.phantom import phantom_study
from tests.bench import NOON, Bench, OneProbability
from worker.hold import Node
from worker.models import InTurn
from worker.run import Analyst
from worker.uploads import FILES, HEATMAPS, Desk, Way


@pytest.fixture
def bench(engine: Engine, tmp_path: Path) -> Bench:
    return Bench(engine, tmp_path)


def desk(bench: Bench, way: Way | None = None) -> Desk:
    node = Node(bench.engine, bench.settings, lambda: bench.stopping, lambda: bench.now)
    return Desk(node, way or Way(), lambda: bench.model)


def upload(bench: Bench, key: str = "a" * 32) -> Path:
    """Add an upload and return the folder of its files."""
    folder = bench.settings.uploads / key / FILES
    folder.mkdir(parents=True)
    with transaction(bench.engine) as session:
        account = add_account(session, f"reader-{key[:2]}", Role.READER, "", NOON)
        told: dict[str, Any] = {"name": "x", "files": 1, "size": 1, "created_at": NOON, "due_at": NOON}
        session.add(Upload(key=key, account_id=account.id, **told))
    return folder


def row(bench: Bench) -> Upload:
    with transaction(bench.engine) as session:
        return session.scalars(select(Upload)).one()


def test_a_picture_is_classified_with_a_heatmap_and_no_path_of_ours(bench: Bench) -> None:
    folder = upload(bench)
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(folder / "00001.png")

    assert desk(bench).take_one()

    done = row(bench)
    (item,) = done.result["items"]
    assert (done.state, item["path"], item["verdict"]) == (UploadState.DONE, "00001.png", "positive")
    assert item["slices"][0]["probability"] == pytest.approx(0.75)
    with Image.open(folder.parent / HEATMAPS / item["slices"][0]["heatmap"]) as shown:
        assert shown.size == (64, 64)
    assert str(bench.folder) not in str(done.result)
    assert not desk(bench).take_one()


def test_a_study_of_many_files_is_one_item(bench: Bench) -> None:
    folder = upload(bench)
    phantom_study(folder, 16, size=256)

    desk(bench).take_one()

    (item,) = row(bench).result["items"]
    assert (item["kind"], item["path"]) == ("study", "")
    heatmaps = [each["heatmap"] for each in item["slices"]]
    assert len(heatmaps) == len(set(heatmaps)) > 5


def test_a_file_that_is_damaged_is_an_item_that_says_so(bench: Bench) -> None:
    folder = upload(bench)
    (folder / "00001.jpg").write_bytes(b"\xff\xd8\xff damaged")

    desk(bench).take_one()

    (item,) = row(bench).result["items"]
    assert item["verdict"] == "error"
    assert str(bench.folder) not in item["reason"]


def test_what_fails_ends_the_upload_and_the_next_one_is_served(bench: Bench) -> None:
    folder = upload(bench)
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(folder / "00001.png")
    bench.model = OneProbability(error=RuntimeError("no luck"))

    assert desk(bench).take_one()

    assert (row(bench).state, row(bench).reason) == (UploadState.FAILED, "RuntimeError: no luck")
    assert not desk(bench).take_one()


def test_a_worker_that_is_stopped_puts_the_upload_back(bench: Bench) -> None:
    phantom_study(upload(bench), 16, size=256)
    bench.model.before_predict = lambda: setattr(bench, "stopping", True)

    desk(bench).take_one()

    assert (row(bench).state, row(bench).attempts) == (UploadState.QUEUED, 0)


def test_an_analysis_waits_between_two_batches_while_an_upload_is_at_work(
    bench: Bench, tmp_path: Path
) -> None:
    bench.archive(tuple(phantom_study(tmp_path / "study", 16, size=256).paths))
    order: list[str] = []
    way, begun = Way(), threading.Event()

    def note() -> None:
        order.append("study")
        begun.set()

    bench.model.before_predict = note
    node = Node(bench.engine, bench.settings, lambda: False, lambda: bench.now, give_way=way.give)

    with ThreadPoolExecutor(1) as pool:
        with way.taken():
            analysis = pool.submit(Analyst(node, lambda _f, _s: bench.model).analyse_most_urgent)
            first = begun.wait(0.5)
            order.append("upload")
        analysis.result()

    # At most the batch that had begun goes before; the others wait.
    assert order.count("study") > 2
    assert order.index("upload") <= 1
    assert first or order[0] == "upload"


def test_a_model_serves_two_threads_one_batch_at_a_time() -> None:
    inside = threading.Semaphore(1)
    model = OneProbability(before_predict=lambda: None)

    def alone() -> None:
        assert inside.acquire(blocking=False)
        threading.Event().wait(0.005)
        inside.release()

    model.before_predict = alone
    shared = InTurn(model, threading.Lock())
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: shared.predict(np.ones((2, 64, 64), np.uint8)), range(12)))

    assert len(done) == 12
