"""Analysis workers whose model takes a fixed time; Celery, leases, claims and results are real."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Final

import worker.run
from db.models import Output
from db.work import Claim
from lungnode.queue import ANALYSIS_QUEUE
from lungnode.runtime import Model
from lungnode.settings import DicomDestination, Settings
from tests.bench import OneProbability
from worker.hold import Node
from worker.result import StudyFinding, Verdict
from worker.results import Staged
from worker.study import Revision
from worker.tasks import serve

HEATMAPS: Final = 20  # files beside the three reports, as of any positive study
_FORK: Final = multiprocessing.get_context("fork")  # what is imported is imported once


class Simulated(worker.run.Analyst):
    """Waits instead of analysing, then writes the rows and files of a usual result; files are empty."""

    seconds: ClassVar[float] = 0.0

    def __init__(self, node: Node) -> None:
        super().__init__(node, lambda _folder, _settings: OneProbability())

    def _analyse(self, held: Claim, revision: Revision, model: Model, _lost: Event) -> list[int]:
        time.sleep(self.seconds)
        finding = StudyFinding(Verdict.POSITIVE, 0.75, 0.5, "")
        staged = _staged(self._node.settings.outputs, revision)
        return self._keep(held, revision, finding, self._values(finding, model.info), staged) or []


def _staged(outputs: Path, revision: Revision) -> Staged:
    folder = outputs / "staging" / f"{revision.analysis_id}-{os.urandom(4).hex()}"
    folder.mkdir(parents=True)
    groups = ("sr", "sr-comprehensive", "sr-enhanced", *("sc",) * HEATMAPS)
    return Staged(folder, tuple(_output(folder, revision, n, group) for n, group in enumerate(groups)))


def _output(folder: Path, revision: Revision, number: int, group: str) -> Output:
    uid = f"{revision.study_instance_uid}.9.{number}"
    (folder / f"{uid}.dcm").touch()
    return Output(
        analysis_id=revision.analysis_id,
        group=group,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        sop_instance_uid=uid,
        series_instance_uid=f"{revision.study_instance_uid}.{group}",
        path=f"{revision.study_instance_uid}/{revision.revision}/{uid}.dcm",
        size=0,
        digest="",
    )


def settings_of(folder: Path, url: str, **sections: Any) -> Settings:
    """Return the settings of a node with an embedded broker and one destination."""
    pacs = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104)
    return Settings(data=folder, database_url=url, destinations=(pacs,), **sections)


@contextmanager
def simulated_workers(settings: Settings, count: int, seconds: float) -> Iterator[None]:
    """Run so many workers, each a parent with its child, until the block ends."""
    Simulated.seconds = seconds
    workers = [_FORK.Process(target=_serve, args=(settings,)) for _ in range(count)]
    for each in workers:
        each.start()
    try:
        yield
    finally:
        for each in workers:
            each.terminate()
        for each in workers:
            each.join()


def _serve(settings: Settings) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Celery says goodbye
    # The child of the pool looks the class up by this name when it starts.
    setattr(worker.run, "Analyst", Simulated)  # noqa: B010 - a class may not be assigned to, says mypy
    serve(settings, ANALYSIS_QUEUE)
