"""What an analysis leaves: files that were durable before their rows were committed, and deliveries of them.

Files are staged first and moved into place inside the transaction that commits their rows, which only the
owner of the analysis can do. So a run that lost its row never touches the files of the one that took over.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.deliveries import MESSAGE_GROUPS
from db.models import Analysis, Delivery, Output
from db.work import Claim, finish
from lungnode.settings import Destination, DicomObjects, OutputKind
from lungnode.shown_maps import MAPS_FILE, write_maps
from lungnode.store import Store
from worker.outputs.compose import Composed
from worker.outputs.header import SOURCE_CHARACTER_SET, encode
from worker.parcel import REPORT_GROUPS, groups_to_choose_from
from worker.result import SliceFinding, Verdict
from worker.study import Revision

THREADS: Final = 4
_ALWAYS: Final = ("sr", "sc")  # composed even where no destination wants them: a later one may


@dataclass(frozen=True)
class Staged:
    """Composed files that wait for their transaction."""

    folder: Path
    outputs: tuple[Output, ...]

    @property
    def files(self) -> dict[str, Path]:
        """The files by the paths that their rows name."""
        return {each.path: self.folder / f"{each.sop_instance_uid}.dcm" for each in self.outputs}

    @property
    def maps(self) -> dict[str, Path]:
        """What heatmaps show, beside them; empty where there are none."""
        file = self.folder / MAPS_FILE
        beside = {f"{PurePosixPath(each.path).parent}/{MAPS_FILE}" for each in self.outputs}
        return dict.fromkeys(beside, file) if file.exists() else {}


def wanted_groups(destination: Destination, verdict: Verdict) -> tuple[str, ...]:
    """Return the output groups that a destination gets, in the order it gets them."""
    if verdict is Verdict.NOT_APPLICABLE and not destination.not_applicable:
        return ()
    if not isinstance(destination, DicomObjects):
        return (destination.kind,)
    mark = SOURCE_CHARACTER_SET if destination.keep_character_set else ""
    names = {
        "sr": REPORT_GROUPS[destination.report_classes[0]],
        "sc": "sc-multi" if destination.multi_frame else "sc",
    }
    return tuple(names.get(kind, kind) + mark for kind in destination.outputs if _has(verdict, kind))


def _has(verdict: Verdict, kind: OutputKind) -> bool:
    if kind == "sr":
        return True
    if kind == "kos":  # where nothing was found, no slice is of interest
        return verdict in (Verdict.POSITIVE, Verdict.UNDETERMINED)
    return verdict not in (Verdict.NOT_APPLICABLE, Verdict.ERROR)


def groups_to_compose(destinations: Iterable[Destination], verdict: Verdict) -> tuple[str, ...]:
    """Return every group that may be sent, a report in all its classes."""
    wanted = {group for destination in destinations for group in wanted_groups(destination, verdict)}
    if wanted.intersection(MESSAGE_GROUPS):  # messages are made of the report
        wanted = wanted.difference(MESSAGE_GROUPS) | {"sr"}
    if verdict is Verdict.ERROR:
        wanted.add("sr")
    elif verdict is not Verdict.NOT_APPLICABLE:
        wanted.update(_ALWAYS)
    return tuple(sorted({choice for group in wanted for choice in groups_to_choose_from(group)}))


class Place(Protocol):
    """Whose outputs are staged: they lie in a folder of their study and revision."""

    @property
    def analysis_id(self) -> int:
        """Number of the analysis."""

    @property
    def study_instance_uid(self) -> str:
        """Of the study."""

    @property
    def revision(self) -> int:
        """Of the study."""


def stage(
    outputs: Store, place: Place, composed: Sequence[Composed], slices: Sequence[SliceFinding] = ()
) -> Staged:
    """Write the composed objects, and what heatmaps show of the slices, to a folder of their own.

    All of it is synchronised; of a failure nothing stays.
    """
    folder = outputs.root / "staging" / f"{place.analysis_id}-{os.urandom(4).hex()}"
    with ExitStack() as undone:
        undone.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with ThreadPoolExecutor(THREADS, "write") as pool:  # a disk synchronises several files at once
            staged = Staged(folder, tuple(pool.map(partial(_stage_one, outputs, folder, place), composed)))
        if composed and slices:
            write_maps(folder / MAPS_FILE, [s.class_map for s in slices], [s.box for s in slices])
        outputs.prepare(staged.files)
        undone.pop_all()
    return staged


def _stage_one(outputs: Store, folder: Path, place: Place, composed: Composed) -> Output:
    content = encode(composed.dataset)
    uid, digest = str(composed.dataset.SOPInstanceUID), sha256(content).hexdigest()
    with (folder / f"{uid}.dcm").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Output(
        analysis_id=place.analysis_id,
        group=composed.group,
        sop_class_uid=str(composed.dataset.SOPClassUID),
        sop_instance_uid=uid,
        series_instance_uid=str(composed.dataset.SeriesInstanceUID),
        is_summary=composed.is_summary,
        path=outputs.path_for(f"{place.study_instance_uid}/{place.revision}", uid, digest),
        size=len(content),
        digest=digest,
    )


def discard(staged: Staged) -> None:
    """Remove what was staged, and what runs that were killed left of the same analysis."""
    prefix = staged.folder.name.partition("-")[0]
    for leftover in staged.folder.parent.glob(f"{prefix}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def commit(session: Session, held: Claim, values: dict[str, Any], staged: Staged, outputs: Store) -> bool:
    """End the analysis with `values` and its outputs; False when another run took it over.

    Outputs that an earlier run committed stay as they are: a peer may have them already.
    """
    if not finish(session, held, values):
        return False
    if session.scalar(select(Output.id).where(Output.analysis_id == held.row_id).limit(1)) is not None:
        return True
    move_into_place(session, staged, outputs)
    return True


def move_into_place(session: Session, staged: Staged, outputs: Store) -> None:
    """Give staged files their lasting names, durably, and add their rows."""
    maps = staged.maps
    outputs.prepare(maps)  # their name is every run's: only the one that ends the analysis may have it
    outputs.place(staged.files | maps)
    session.add_all(staged.outputs)
    session.flush()


def add_deliveries(
    session: Session, revision: Revision, destinations: Sequence[Destination], verdict: Verdict, now: datetime
) -> list[int]:
    """Queue what each destination gets; return the first delivery of each, for the others wait for it."""
    priority = session.get_one(Analysis, revision.analysis_id).priority
    existing = select(Output.group).where(Output.analysis_id == revision.analysis_id).distinct()
    made = set(session.scalars(existing))
    if "sr" in made:
        made.update(MESSAGE_GROUPS)
    first = []
    for destination in destinations:
        rows = [
            Delivery(
                analysis_id=revision.analysis_id,
                destination=destination.name,
                group=group,
                priority=priority,
                due_at=now,
                created_at=now,
            )
            for group in wanted_groups(destination, verdict)
            if group in made
        ]
        for row in rows:  # one by one: their numbers are their order
            session.add(row)
            session.flush()
        first += [row.id for row in rows[:1]]
    return first
