"""Rejection notes from their rows to their files: composed once, by the courier that is about to send one.

Which results of ours may have arrived is known only then: a delivery that was under way when they were
withdrawn has ended, for the note waits behind it.
"""

from dataclasses import dataclass
from datetime import datetime

from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.deliveries import is_void
from db.models import Analysis, Delivery, DeliveryState, Output, Study
from db.session import transaction
from db.work import Claim, finish, note
from lungnode.errors import UnusableError
from lungnode.rejection import GROUP, Title, title_of
from lungnode.store import StoredFile
from worker.answers import Meaning
from worker.hold import Node, Stopped
from worker.outputs.compose import Composed
from worker.outputs.rejection import compose_rejection
from worker.result import Context
from worker.results import discard, move_into_place, stage


@dataclass(frozen=True)
class Rejected:
    """What a rejection note is about; also where its file belongs."""

    analysis_id: int
    study_instance_uid: str
    revision: int
    group: str
    title: Title
    created_at: datetime
    model: str
    model_digest: str
    outputs: tuple[Output, ...]

    @property
    def context(self) -> Context:
        """What the note says beside what it rejects."""
        name, _, version = self.model.rpartition(" ")
        return Context(
            study_instance_uid=self.study_instance_uid,
            revision=self.revision,
            created_at=self.created_at.isoformat(),
            completeness="",
            model_name=name,
            model_version=version,
            model_digest=self.model_digest,
        )


def end_withdrawn(session: Session, held: Claim, row: Delivery, now: datetime) -> bool:
    """End a claimed delivery whose result does not count any more, or a note about what never arrived."""
    if is_void(row.group):
        reason = ""
    elif title_of(row.group) is not None:
        reason = "" if _arrived(session, row) else "Nothing of the rejected results has arrived there."
    else:
        reason = session.get_one(Analysis, row.analysis_id).withdrawn
    values = {"state": DeliveryState.WITHDRAWN, "reason": reason, "finished_at": now}
    return bool(reason) and finish(session, held, values | {"attempts": row.attempts - 1, "advice": ""})


def ensure_note(node: Node, held: Claim, group: str) -> bool:
    """Compose the rejection note of a claimed delivery; False when it is there, or no note at all.

    Raises:
        UnusableError: The results' files are deleted.
        OSError: A file cannot be read or written.
        Stopped: The row was taken back.
    """
    title = title_of(group)
    if title is None:
        return False
    with transaction(node.engine) as session:
        row = session.get_one(Delivery, held.row_id)
        if _is_made(session, row):
            return False
        rejected = _read(session, row, title)
    paths = node.outputs.fetch(list(map(StoredFile.of, rejected.outputs)))
    if not paths or not all(path.is_file() for path in paths):
        raise UnusableError(
            "The files of the rejected results are deleted, so no rejection note can be made.",
            advice="Have the destination reject the results itself.",
        )
    sent = [dcmread(path, stop_before_pixels=True) for path in paths]
    composed = compose_rejection(sent, rejected.title, rejected.context, rejected.group)
    staged = stage(node.outputs, rejected, [Composed(rejected.group, composed)])
    try:
        with transaction(node.engine) as session:
            if not note(session, held, {"negotiated_at": node.clock()}):
                raise Stopped
            move_into_place(session, staged, node.outputs)
    finally:
        discard(staged)
    return True


def _is_made(session: Session, row: Delivery) -> bool:
    query = select(Output.id).where(Output.analysis_id == row.analysis_id, Output.group == row.group)
    return session.scalar(query.limit(1)) is not None


def _read(session: Session, row: Delivery, title: Title) -> Rejected:
    analysis, arrived = session.get_one(Analysis, row.analysis_id), _arrived(session, row)
    there = (output for output in analysis.outputs if output.sop_instance_uid in arrived)
    return Rejected(
        analysis_id=analysis.id,
        study_instance_uid=session.get_one(Study, analysis.study_id).study_instance_uid,
        revision=analysis.revision,
        group=row.group,
        title=title,
        created_at=row.created_at,
        model=analysis.model,
        model_digest=analysis.model_digest,
        outputs=tuple(output for output in there if output.deleted_at is None),
    )


def _arrived(session: Session, row: Delivery) -> set[str]:
    """Return the results that the destination may have, by SOP Instance UID.

    A courier that was killed wrote down no answer. But it had fixed the group before its first byte.
    """
    begun = Delivery.negotiated_at.is_not(None), Delivery.group.not_like(f"{GROUP}-%")
    beside = (Delivery.analysis_id == row.analysis_id, Delivery.destination == row.destination)
    found: set[str] = set()
    for sent in session.scalars(select(Delivery).where(*beside, *begun)):
        of_group = (Output.analysis_id == row.analysis_id, Output.group == sent.group)
        refused = {each["sop_instance_uid"] for each in sent.instances if each["meaning"] == Meaning.REFUSED}
        found |= set(session.scalars(select(Output.sop_instance_uid).where(*of_group))) - refused
    return found
