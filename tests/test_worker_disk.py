"""The analysis worker on disks that are really full: no attempt is spent, and no study quarantined."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from db.session import transaction
from db.work import ANALYSES, take_back
from lungnode.errors import UnavailableError
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.shown_maps import MAPS_FILE
from tests.bench import NOON, Bench
from tests.databases import new_sqlite
from tests.disks import Disks, SmallDisk
from worker.room import FULL_WAIT_S, LEAST_BYTES

MEGABYTES = LEAST_BYTES // 1_000_000 + 20


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=14, size=128)


@pytest.fixture
def disk(disks: Disks) -> SmallDisk:
    return disks.make(MEGABYTES)


@pytest.fixture
def bench(engine: Engine, tmp_path: Path, disk: SmallDisk) -> Bench:
    """A node whose outputs lie on a small disk."""
    (tmp_path / "outputs").symlink_to(disk.folder, target_is_directory=True)
    return Bench(engine, tmp_path)


def test_without_room_for_its_results_a_study_is_not_begun(
    bench: Bench, disk: SmallDisk, study: PhantomStudy
) -> None:
    row_id = bench.archive(study.paths)
    disk.fill(leave=LEAST_BYTES - 1_000_000)

    with pytest.raises(
        UnavailableError, match=r"outputs has 5\d\.\d MB free; analyses wait until it has 60 MB"
    ):
        bench.analyse()

    row = bench.row(row_id)
    assert (row.state, row.attempts) == ("queued", 0)
    disk.make_room()
    bench.analyse()
    assert bench.row(row_id).state == "done"


def test_a_disk_that_fills_while_results_are_written_costs_no_attempt_and_leaves_nothing(
    bench: Bench, disk: SmallDisk, study: PhantomStudy
) -> None:
    row_id = bench.archive(study.paths)
    bench.model.before_predict = disk.fill
    for attempt in range(4):  # more than are allowed
        assert bench.analyse() == []
        row = bench.row(row_id)
        assert (row.state, row.attempts) == ("queued", 0)
        assert row.due_at == bench.now + timedelta(seconds=FULL_WAIT_S)
        assert "No space left on device" in row.reason
        assert bench.files() == {"filler"}, attempt
        disk.make_room()
        bench.now = row.due_at

    bench.model.before_predict = lambda: None
    bench.analyse()

    row = bench.row(row_id)
    assert (row.state, row.verdict, row.attempts, len(row.deliveries)) == ("done", "positive", 1, 2)
    (maps,) = (path for path in bench.files() if path.endswith(MAPS_FILE))
    assert bench.files() == {output.path for output in row.outputs} | {maps}


def test_a_database_on_a_full_disk_keeps_the_study_for_later(
    disks: Disks, tmp_path: Path, study: PhantomStudy
) -> None:

    small = disks.make(MEGABYTES)
    engine = new_sqlite(f"sqlite:///{small.folder / 'lungnode.sqlite3'}", lock_wait_s=1.0)
    bench = Bench(engine, tmp_path)
    row_id = bench.archive(study.paths)
    bench.model.before_predict = small.fill

    with pytest.raises(UnavailableError, match="database or disk is full"):
        bench.analyse()

    assert bench.row(row_id).state == "running"
    small.make_room()
    bench.model.before_predict = lambda: None
    _take_back(bench, row_id)
    bench.analyse()
    row = bench.row(row_id)
    assert (row.state, row.attempts) == ("done", 2)
    assert {output.path for output in row.outputs} == {
        path for path in bench.files() if not path.endswith(MAPS_FILE)
    }
    engine.dispose()


def _take_back(bench: Bench, row_id: int) -> None:
    """Do what the clerk does when the lease has run out."""
    bench.now = NOON + timedelta(hours=1)
    with transaction(bench.engine) as session:
        assert take_back(session, ANALYSES, bench.now, max_attempts=2) == [row_id]
