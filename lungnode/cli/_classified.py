"""What `lungnode classify` does: classify, show, save."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from lungnode.cli._known import place_in_use
from lungnode.errors import UnusableError
from lungnode.loading import read_instance
from lungnode.model_folder import ModelInfo, verified
from lungnode.runtime import open_model
from lungnode.settings import Settings
from worker.classify import Item, classify, unusable
from worker.conduct import Conduct
from worker.gather import Task, gather
from worker.item_views import draw_heatmaps, item_record
from worker.outputs.compose import compose
from worker.result import Context, Verdict

WIDE: Final = 160  # columns of a table that goes into a file or a pipe
COMPLETENESS: Final = "not judged: the files were given by hand"
RESEARCH_USE: Final = "Research use only. Not for diagnostic use."
_STYLES: Final = {Verdict.POSITIVE: "bold red", Verdict.ERROR: "yellow", Verdict.UNDETERMINED: "magenta"}


@dataclass(frozen=True)
class Saved:
    """Folders for results; None where nothing is saved."""

    heatmaps: Path | None = None
    reports: Path | None = None


def run(paths: Sequence[Path], settings: Settings, saved: Saved, *, as_json: bool) -> bool:
    """Classify what the paths hold and print it; False when there was an error among it.

    Raises:
        UnusableError: The model cannot be used, or a folder cannot be written.
    """
    place = place_in_use(settings)
    info = verified(place)
    for target in (saved.heatmaps, saved.reports):
        _make_folder(target)
    items = []
    classified = _classified(gather(paths), place.folder, settings, info)
    for number, item in enumerate(classified, start=1):
        items.append(item)
        _save(item, saved, number, info)
    if as_json:
        records = [item_record(item) for item in items]
        document = {"model": _name(info), "threshold": info.threshold, "items": records}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _print_table(items, info)
    return not any(item.finding.verdict is Verdict.ERROR for item in items)


def _classified(tasks: Sequence[Task], folder: Path, settings: Settings, info: ModelInfo) -> Iterator[Item]:
    if all(task.problem for task in tasks):  # a model takes seconds to load
        yield from (unusable(task, info.threshold) for task in tasks)
        return
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        shown = progress.add_task("load the model", total=None)
        model = open_model(folder, settings)
        conduct = Conduct(time.monotonic, _Shown(progress, shown), settings.analysis.at_most)
        yield from classify(tasks, model, conduct)


@dataclass(frozen=True)
class _Shown:
    """Shows how far an analysis is."""

    progress: Progress
    task: TaskID

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.progress.update(self.task, description=phase, completed=done, total=total)


def _name(info: ModelInfo) -> str:
    """Name a model so that it can be told from every other."""
    return f"{info.name} {info.version} (sha256 {info.digest})"


def _print_table(items: list[Item], info: ModelInfo) -> None:
    """Print the items for a person."""
    table = Table(
        caption=f"{RESEARCH_USE} Positive from {info.threshold:.2f}. Model {info.name} {info.version}."
    )
    for heading in ("path", "kind", "verdict"):
        table.add_column(heading, overflow="fold")
    for heading in ("probability", "slices", "seconds"):
        table.add_column(heading, justify="right")
    for item in items:
        finding = item.finding
        table.add_row(
            escape(str(item.task.path)),
            item.task.kind,
            Text(finding.verdict, _STYLES.get(finding.verdict, "")),
            "" if finding.probability is None else f"{finding.probability:.3f}",
            str(len(finding.slices)),
            f"{item.seconds:.1f}",
        )
    console = Console() if Console().is_terminal else Console(width=WIDE)
    console.print(table)
    for item in items:
        if item.finding.reason:
            console.print(f"{item.task.path}: {item.finding.reason}", markup=False, soft_wrap=True)


def _save(item: Item, saved: Saved, number: int, info: ModelInfo) -> None:
    try:
        if saved.heatmaps is not None:
            draw_heatmaps(item, saved.heatmaps, f"{number:04d}-{item.task.path.stem or 'study'}")
        if saved.reports is not None:
            _save_report(item, saved.reports / f"{number:04d}.dcm", info, datetime.now(UTC))
    except OSError as error:
        raise UnusableError(
            f"The results of {item.task.path} cannot be written: {error.strerror}."
        ) from error


def _save_report(item: Item, path: Path, info: ModelInfo, created_at: datetime) -> None:
    """Write the Structured Report of a DICOM item that was analysed.

    Raises:
        UnusableError: An instance can no longer be read.
    """
    if item.task.is_picture or item.finding.verdict is Verdict.NOT_APPLICABLE or not item.task.headers:
        return
    shown = {found.sop_instance_uid for found in item.finding.slices}
    sources = {
        header.sop_instance_uid: read_instance(header.path, pixels=False)
        for header in item.task.headers
        if not shown or header.sop_instance_uid in shown
    }
    context = Context(
        study_instance_uid=item.task.headers[0].study_instance_uid,
        revision=1,
        created_at=created_at.isoformat(),
        completeness=COMPLETENESS,
        model_name=info.name,
        model_version=info.version,
        model_digest=info.digest,
    )
    for made in compose(item.finding, context, sources, item.gray, ["sr"]):
        made.dataset.save_as(path, enforce_file_format=True)


def _make_folder(folder: Path | None) -> None:
    """Make a folder for results.

    Raises:
        UnusableError: It cannot be made.
    """
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableError(f"The folder {folder} cannot be made: {error.strerror}.") from error
