"""Classifying files without a node: the analysis of a worker, an item for each study or image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lungnode.errors import UnusableError
from lungnode.loading import read_gray, read_grays
from lungnode.pixels import Gray, read_image
from lungnode.runtime import Model
from worker.analysis import analyse, picture_findings
from worker.conduct import Conduct
from worker.gather import Task
from worker.result import SliceFinding, StudyFinding, Verdict


@dataclass(frozen=True)
class Item:
    """One classified study or image."""

    task: Task
    finding: StudyFinding
    seconds: float

    def gray(self, item: SliceFinding) -> Gray:
        """Decode one of its slices again: its whole matrix in the lung window."""
        if self.task.is_picture:
            return read_image(self.task.path.read_bytes())
        wanted = (item.sop_instance_uid, item.frame)
        return read_gray(next(h for h in self.task.headers if (h.sop_instance_uid, h.frame) == wanted))


def classify(tasks: Sequence[Task], model: Model, conduct: Conduct) -> Iterator[Item]:
    """Classify all tasks in their order; pictures that follow each other share batches."""
    waiting: list[Task] = []
    for task in tasks:
        if task.is_picture:
            waiting.append(task)
        if waiting and (not task.is_picture or len(waiting) == model.batch):
            yield from _pictures(waiting, model, conduct)
            waiting = []
        if task.problem:
            yield unusable(task, model.info.threshold)
        elif not task.is_picture:
            yield _dicom(task, model, conduct)
    if waiting:
        yield from _pictures(waiting, model, conduct)


def unusable(task: Task, threshold: float) -> Item:
    """Return the item of a task that cannot be classified."""
    return Item(task, StudyFinding(Verdict.ERROR, None, threshold, task.problem), 0.0)


def _dicom(task: Task, model: Model, conduct: Conduct) -> Item:
    start = conduct.clock()
    finding, _ = analyse(task.headers, read_grays, model, conduct, picked=task.kind == "image")
    return Item(task, finding, conduct.clock() - start)


def _pictures(tasks: Sequence[Task], model: Model, conduct: Conduct) -> list[Item]:
    start = conduct.clock()
    read = [_read(task) for task in tasks]
    findings = iter(picture_findings([gray for gray in read if not isinstance(gray, str)], model, conduct))
    found = [
        StudyFinding(Verdict.ERROR, None, model.info.threshold, gray)
        if isinstance(gray, str)
        else next(findings)
        for gray in read
    ]
    seconds = (conduct.clock() - start) / len(tasks)
    return [Item(task, finding, seconds) for task, finding in zip(tasks, found, strict=True)]


def _read(task: Task) -> Gray | str:
    """Decode a picture, or say why it cannot be."""
    try:
        return read_image(task.path.read_bytes())
    except OSError as error:
        return f"The file {task.path} cannot be read: {error.strerror}."
    except UnusableError as error:
        return str(error)
