"""What a delivery's rows say there is to send."""

from dataclasses import dataclass
from itertools import chain
from typing import Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from db.models import Analysis, Delivery, DeliveryState, Study
from lungnode.settings import SenderDestination, Settings
from worker.parcel import Item, Parcel, groups_to_choose_from, recalled

_DEFAULT: Final = SenderDestination(name="default", kind="sender")
UNFINISHED: Final = (DeliveryState.PENDING, DeliveryState.SENDING)


@dataclass(frozen=True)
class Load:
    """What one delivery sends, and what follows it over the same association."""

    destination: str
    sender: tuple[str, str]  # AE title and address of who sent the study
    parcel: Parcel
    followers: tuple[Parcel, ...]

    def proposal(self) -> dict[str, set[str]]:
        """Return the transfer syntaxes of all instances, by SOP class."""
        proposed: dict[str, set[str]] = {}
        for parcel in (self.parcel, *self.followers):
            for item in chain.from_iterable(parcel.choices.values()):
                proposed.setdefault(item.sop_class_uid, set()).add(item.transfer_syntax_uid)
        return proposed


def read_load(session: Session, settings: Settings, row: Delivery) -> Load:
    """Read what is to be sent of a delivery that was claimed, as the settings in force want it."""
    after = select(Delivery).where(*beside(row), Delivery.id > row.id, Delivery.state.in_(UNFINISHED))
    followers = (_read_parcel(session, settings, each) for each in session.scalars(after))
    study = session.get_one(Study, session.get_one(Analysis, row.analysis_id).study_id)
    sender = (study.calling_ae_title, study.address)
    return Load(row.destination, sender, _read_parcel(session, settings, row), tuple(followers))


def beside(row: Delivery) -> tuple[ColumnElement[bool], ...]:
    """Return what holds of all deliveries of one analysis to one destination."""
    return Delivery.analysis_id == row.analysis_id, Delivery.destination == row.destination


def _read_parcel(session: Session, settings: Settings, row: Delivery) -> Parcel:
    wanted = next((each for each in settings.destinations if each.name == row.destination), _DEFAULT)
    outputs = [
        output
        for output in session.get_one(Analysis, row.analysis_id).outputs
        if wanted.summary_page or not output.is_summary
    ]
    negotiated = row.negotiated_at is not None
    choices = {}
    for group in [row.group] if negotiated else groups_to_choose_from(row.group, wanted.report_classes):
        items = [
            Item(
                path=settings.outputs / output.path,
                sop_class_uid=output.sop_class_uid,
                sop_instance_uid=output.sop_instance_uid,
                resent=row.attempts > 1,
            )
            for output in outputs
            if output.group == group
        ]
        if items:
            choices[group] = tuple(recalled(item, row.instances) for item in items)
    return Parcel(row.group, choices, negotiated)
