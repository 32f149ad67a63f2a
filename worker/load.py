"""What a delivery's rows say there is to send."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from db.deliveries import is_message, is_void
from db.models import Analysis, Delivery, DeliveryState, Output, Study
from lungnode.identifiers import short_identifier
from lungnode.settings import DicomObjects, SenderDestination
from lungnode.store import StoredFile
from worker.hold import Node
from worker.parcel import REPORT_GROUPS, Item, Parcel, groups_to_choose_from

_DEFAULT: Final = SenderDestination(name="default", kind="sender")
UNFINISHED: Final = (DeliveryState.PENDING, DeliveryState.SENDING)


@dataclass(frozen=True)
class Load:
    """What one delivery sends, and what follows it over the same association."""

    destination: str
    sender: tuple[str, str]  # AE title and address of who sent the study
    parcel: Parcel
    followers: tuple[Parcel, ...]
    files: tuple[StoredFile, ...]  # below the outputs, that may be read for it
    report: Path | None = None  # what a message is composed from
    withdrawn: str = ""  # why a message is taken back

    def proposal(self) -> dict[str, set[str]]:
        """Return the transfer syntaxes of all instances, by SOP class."""
        proposed: dict[str, set[str]] = {}
        for parcel in (self.parcel, *self.followers):
            for item in chain.from_iterable(parcel.choices.values()):
                proposed.setdefault(item.sop_class_uid, set()).add(item.transfer_syntax_uid)
        return proposed


def read_load(session: Session, node: Node, row: Delivery) -> Load:
    """Read what is to be sent of a delivery that was claimed, as the settings in force want it."""
    analysis = session.get_one(Analysis, row.analysis_id)
    study = session.get_one(Study, analysis.study_id)
    sender = (study.calling_ae_title, study.address)
    outputs = [output for output in analysis.outputs if output.deleted_at is None]
    if is_message(row.group):
        reports = [output for output in outputs if output.group == REPORT_GROUPS["comprehensive-3d"]]
        report = node.outputs.root / reports[0].path if reports else None
        withdrawn = analysis.withdrawn if is_void(row.group) else ""
        files = tuple(map(StoredFile.of, reports))
        return Load(row.destination, sender, _message(row, analysis, study), (), files, report, withdrawn)
    after = select(Delivery).where(*beside(row), Delivery.id > row.id, Delivery.state.in_(UNFINISHED))
    parcel, *followers = (_parcel(node, each, outputs) for each in (row, *session.scalars(after)))
    return Load(row.destination, sender, parcel, tuple(followers), tuple(map(StoredFile.of, outputs)))


def beside(row: Delivery) -> tuple[ColumnElement[bool], ...]:
    """Return what holds of all deliveries of one analysis to one destination."""
    return Delivery.analysis_id == row.analysis_id, Delivery.destination == row.destination


def _message(row: Delivery, analysis: Analysis, study: Study) -> Parcel:
    # The same for each attempt, so that a receiver knows a message again; another for another analysis.
    revision = (study.study_instance_uid, str(analysis.revision), analysis.created_at.isoformat())
    item = Item(
        identifier=short_identifier("message", *revision, row.destination, row.group),
        text=row.message,
        resent=row.attempts > 1,
    )
    return Parcel(row.group, {row.group: (item.recalled(row.instances),)}, negotiated=bool(row.message))


def _parcel(node: Node, row: Delivery, outputs: Sequence[Output]) -> Parcel:
    objects = (each for each in node.settings.destinations if isinstance(each, DicomObjects))
    wanted = next((each for each in objects if each.name == row.destination), _DEFAULT)
    negotiated = row.negotiated_at is not None
    choices = {}
    for group in [row.group] if negotiated else groups_to_choose_from(row.group, wanted.report_classes):
        items = [
            Item(
                identifier=output.sop_instance_uid,
                sop_class_uid=output.sop_class_uid,
                path=node.outputs.root / output.path,
                resent=row.attempts > 1,
            ).recalled(row.instances)
            for output in outputs
            if output.group == group and (wanted.summary_page or not output.is_summary)
        ]
        if items:
            choices[group] = tuple(items)
    return Parcel(row.group, choices, negotiated)
