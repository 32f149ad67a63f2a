import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, generate_uid
from sqlalchemy import Engine

from db.models import Analysis, AnalysisState, AuditEvent, Delivery, DeliveryState, Output, Study
from db.session import open_engine, transaction, upgrade
from lungnode.phantom import phantom_study
from lungnode.pulse import file_of, what_is_wrong
from lungnode.queue import ANALYSE_TASK, DELIVER_TASK, open_queue, wake
from lungnode.settings import Settings
from tests.bench import Bench
from tests.databases import new_sqlite
from tests.nodes import children, command, embedded_broker, lungnode, stop, variables, wait_for

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)

DELIVERY = "worker --queue delivery"


@dataclass
class Node:
    """A data folder with database and broker, and a stand-in PACS."""

    settings: Settings
    engine: Engine
    received: Path
    environment: dict[str, str]

    def add_delivery(self) -> int:
        """Queue a report that lies on disk."""
        path, ds = self._write_report()
        with transaction(self.engine) as session:
            study = Study(study_instance_uid=generate_uid(), created_at=NOON, changed_at=NOON)
            analysis = Analysis(
                study=study, revision=1, created_at=NOON, due_at=NOON, state=AnalysisState.DONE
            )
            output = Output(
                analysis=analysis,
                group="sr",
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                series_instance_uid=ds.SeriesInstanceUID,
                path=path.name,
                size=path.stat().st_size,
                digest="",
            )
            row = Delivery(analysis=analysis, destination="PACS", group="sr", due_at=NOON, created_at=NOON)
            session.add_all((output, row))
            session.flush()
            return row.id

    def _write_report(self) -> tuple[Path, Dataset]:
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = (
            Comprehensive3DSRStorage,
            generate_uid(),
            generate_uid(),
        )
        ds.ensure_file_meta()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = self.settings.outputs / f"{ds.SOPInstanceUID}.dcm"
        path.parent.mkdir(exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        return path, ds

    def wake(self, row_id: int) -> None:
        """Send the message."""
        wake(open_queue(self.settings), DELIVER_TASK, row_id)

    def state(self, row_id: int) -> str:
        """Read the delivery's state."""
        with transaction(self.engine) as session:
            return session.get_one(Delivery, row_id).state

    def activities(self) -> list[tuple[str, str]]:
        """What the audit trail has of programs."""
        with transaction(self.engine) as session:
            rows = session.query(AuditEvent).where(AuditEvent.action.startswith("application"))
            return [(row.action, row.subject) for row in rows.order_by(AuditEvent.id)]

    def is_stored(self, row_id: int) -> bool:
        """Tell whether it arrived."""
        return self.state(row_id) == DeliveryState.STORED


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    received = tmp_path / "pacs"
    received.mkdir()
    standin = subprocess.Popen((sys.executable, "-m", "lungnode.standin", str(received)), env=variables())
    port = wait_for(lambda: _port(received), what="the stand-in PACS")
    pacs = {"name": "PACS", "ae_title": "STANDIN", "host": "127.0.0.1", "port": port}
    environment = {"LUNGNODE_DESTINATIONS": json.dumps([pacs])}
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    yield Node(Settings(data=tmp_path), engine, received, environment)
    engine.dispose()
    stop(standin)


def _port(folder: Path) -> int | None:
    path = folder / "port.json"
    return int(json.loads(path.read_text())["port"]) if path.exists() else None


def test_a_delivery_worker_survives_its_broker_and_ends_at_sigterm(node: Node) -> None:
    """One test for one life of a worker: starting it takes seconds."""
    first = node.add_delivery()

    with lungnode(
        node.settings.data, "worker", "--queue", "delivery", environment=node.environment
    ) as worker:
        with embedded_broker(node.settings):
            node.wake(first)
            wait_for(lambda: node.is_stored(first), what="the first delivery")
        second = node.add_delivery()
        with embedded_broker(node.settings):
            node.wake(second)
            wait_for(lambda: node.is_stored(second), what="the second, through the new broker")
            assert stop(worker) == 0

    assert node.activities() == [("application started", DELIVERY), ("application stopped", DELIVERY)]
    assert len(list(node.received.glob("*.dcm"))) == 2


def test_a_worker_that_starts_before_the_tables_are_made_waits_for_them(tmp_path: Path) -> None:
    settings, log = Settings(data=tmp_path), tmp_path / "log"
    file = file_of(tmp_path, "worker-delivery")
    with (
        embedded_broker(settings),
        lungnode(tmp_path, "worker", "--queue", "delivery", log=log) as worker,
    ):
        found = "are not those of this version"
        wait_for(lambda: log.exists() and found in log.read_text(), what="the worker's look")
        told = "waits: the database, or its tables"
        wait_for(lambda: what_is_wrong(file, ready=True) == told, what="the worker's sign of life")

        engine = open_engine(settings.database)
        upgrade(engine)
        engine.dispose()

        wait_for(lambda: not what_is_wrong(file, ready=True), what="the worker")
        assert stop(worker) == 0


def test_a_worker_whose_model_cannot_be_read_says_so_and_ends(tmp_path: Path) -> None:
    broken = {"LUNGNODE_ANALYSIS__MODEL": str(tmp_path / "nothing")}

    done = subprocess.run(
        command(tmp_path, "worker", "--queue", "analysis"),
        env=variables(broken),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"lungnode: The recipe {tmp_path}/nothing/recipe.json cannot be used")


def test_an_unknown_queue_is_wrong_use(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "worker", "--queue", "mail"),
        env=variables(),
        check=False,
        capture_output=True,
        timeout=60,
    )

    assert done.returncode == 2


def test_an_analysis_that_hangs_is_killed_at_its_limit_and_a_stopping_worker_waits_for_no_model(
    tmp_path: Path,
) -> None:
    """One test for two lives of the model's process: loading it takes seconds."""
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    bench = Bench(engine, tmp_path)
    # So many that it is killed at its limit, and not at its end, even if it is stopped late.
    row_id = bench.archive(phantom_study(tmp_path / "study", slices=100, size=256).paths)
    limit = {"LUNGNODE_ANALYSIS__HARD_LIMIT_S": "3"}
    arguments = ("worker", "--queue", "analysis")
    file = file_of(tmp_path, "worker-analysis")

    with embedded_broker(bench.settings), lungnode(tmp_path, *arguments, environment=limit) as worker:
        wait_for(lambda: not what_is_wrong(file, ready=True), what="the worker")
        (hanging,) = children(worker.pid)
        wake(open_queue(bench.settings), ANALYSE_TASK, row_id)
        wait_for(lambda: bench.row(row_id).state == AnalysisState.RUNNING, limit_s=60, what="the analysis")
        with suppress(ProcessLookupError):
            os.kill(hanging, signal.SIGSTOP)
        wait_for(lambda: set(children(worker.pid)) - {hanging}, what="another process")
        assert stop(worker, limit_s=30) == 0

    assert bench.row(row_id).state == AnalysisState.RUNNING  # until its lease runs out
    assert "ready for analyses" in (tmp_path / "test.log").read_text()
    engine.dispose()


def test_a_worker_whose_broker_dies_in_mid_analysis_takes_the_next_message(tmp_path: Path) -> None:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    bench = Bench(engine, tmp_path)
    paths = phantom_study(tmp_path / "study", slices=16, size=256).paths
    first = bench.archive(paths[:-1])

    with lungnode(tmp_path, "worker", "--queue", "analysis") as worker:
        with embedded_broker(bench.settings):
            wake(open_queue(bench.settings), ANALYSE_TASK, first)
            wait_for(lambda: bench.row(first).state != AnalysisState.QUEUED, what="the analysis")
            (analysing,) = children(worker.pid)
            os.kill(analysing, signal.SIGSTOP)  # so that the broker dies before the analysis ends
        os.kill(analysing, signal.SIGCONT)
        wait_for(lambda: bench.row(first).state == AnalysisState.DONE, limit_s=60, what="its end")
        second = bench.archive(paths[-1:], revision=2)
        with embedded_broker(bench.settings):
            wake(open_queue(bench.settings), ANALYSE_TASK, second)
            wait_for(lambda: bench.row(second).state == AnalysisState.DONE, limit_s=60, what="the next one")

    engine.dispose()
