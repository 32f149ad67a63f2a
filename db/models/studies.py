"""What was received: studies, their instances, and who brought them."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Float, ForeignKey, Index, String, Text, UniqueConstraint, event
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models.base import Base, bytewise
from db.text_keys import search_key

if TYPE_CHECKING:
    from db.models.changes import Correction
    from db.models.labels import Label
    from db.models.work import Analysis


class StudyState(StrEnum):
    """Where a study stands between its first slice and its last."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    WITHDRAWN = "withdrawn"  # rejection notes named all of its slices


class Disposition(StrEnum):
    """What the clerk did with an instance."""

    ARCHIVED = "archived"
    CONFLICT = "conflict"  # same SOP Instance UID as another, other pixels: kept beside it, never analysed
    OWN_OUTPUT = "own_output"  # one of our results came back
    WITHDRAWN = "withdrawn"  # a rejection note named it: kept, never analysed


_FILTERS: Final = (
    "state",
    "last_state",
    "last_verdict",
    "last_model",
    "calling_ae_title",
    "completeness_kind",
)


_ORDERS: Final = ("changed_at", "study_date", "patient_key", "last_probability")


def _key_of_inserted(context: Any) -> str:
    return search_key(str(context.get_current_parameters().get("patient_name") or ""))


def _kind_of_inserted(context: Any) -> str:
    return _kind(str(context.get_current_parameters().get("completeness") or ""))


def _kind(completeness: str) -> str:
    return completeness.partition(":")[0][:32]


class Study(Base):
    """One study as received; text attributes are the decoded values of its first instance.

    What `last_…` says of its last analysis is kept by triggers (db/derived.py), whoever changes that.
    """

    __tablename__ = "studies"
    # Each filter together with each order, so that a page is read from one index whatever is asked.
    __table_args__ = (
        Index("ix_studies_changed", "changed_at", "id"),
        Index("ix_studies_study_date", "study_date", "id"),
        Index("ix_studies_patient_key", "patient_key", "id"),
        Index("ix_studies_last_probability", "last_probability", "id"),
        *(
            Index(f"ix_studies_{column}_{order}", column, order, "id")
            for column in _FILTERS
            for order in _ORDERS
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    patient_id: Mapped[str] = mapped_column(bytewise(255), default="", index=True)
    patient_name: Mapped[str] = mapped_column(String(255), default="")
    patient_key: Mapped[str] = mapped_column(bytewise(255), default=_key_of_inserted, server_default="")
    patient_birth_date: Mapped[str] = mapped_column(String(16), default="")
    patient_sex: Mapped[str] = mapped_column(String(16), default="")
    accession_number: Mapped[str] = mapped_column(String(64), default="", index=True)
    study_date: Mapped[str] = mapped_column(bytewise(16), default="")
    study_description: Mapped[str] = mapped_column(String(255), default="")
    calling_ae_title: Mapped[str] = mapped_column(String(16), default="")
    called_ae_title: Mapped[str] = mapped_column(String(16), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    rule: Mapped[str] = mapped_column(String(255), default="")  # "" when none matched: the defaults apply
    state: Mapped[str] = mapped_column(String(16), default=StudyState.RECEIVING)
    revision: Mapped[int] = mapped_column(default=0)  # the last one judged complete; 0 before the first
    completeness: Mapped[str] = mapped_column(String(255), default="")  # as of the last revision
    completeness_kind: Mapped[str] = mapped_column(String(32), default=_kind_of_inserted, server_default="")
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]  # when its last new instance was received
    hold: Mapped[str] = mapped_column(String(255), default="")  # why it must not be deleted; "" when it may
    expired: Mapped[str] = mapped_column(String(255), default="")  # who asked to delete it: a rejection note
    files_deleted_at: Mapped[datetime | None]  # by retention; its rows stay
    files_deleted_by: Mapped[str] = mapped_column(String(255), default="")  # a sentence: why

    last_analysis_id: Mapped[int | None] = mapped_column(index=True)
    last_state: Mapped[str] = mapped_column(String(16), default="", server_default="")
    last_verdict: Mapped[str] = mapped_column(String(16), default="", server_default="")
    last_probability: Mapped[float | None] = mapped_column(Float)
    last_model: Mapped[str] = mapped_column(String(255), default="", server_default="")

    instances: Mapped[list["Instance"]] = relationship(back_populates="study")
    analyses: Mapped[list["Analysis"]] = relationship(back_populates="study")
    labels: Mapped[list["Label"]] = relationship(back_populates="study", order_by="Label.id")
    corrections: Mapped[list["Correction"]] = relationship(back_populates="study", order_by="Correction.id")

    def reopen(self, at: datetime) -> None:
        """Wait for whatever else comes, and judge the study again then."""
        self.state = StudyState.RECEIVING
        self.changed_at = max(self.changed_at, at)


@event.listens_for(Study, "before_update")
def _renew_keys(_mapper: object, _connection: object, study: Study) -> None:
    study.patient_key = search_key(study.patient_name)
    study.completeness_kind = _kind(study.completeness)


class Instance(Base):
    """One received SOP instance and where its file is."""

    __tablename__ = "instances"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "digest"),
        Index("ix_instances_study_id", "study_id", "series_instance_uid"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    series_instance_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    modality: Mapped[str] = mapped_column(String(16), default="")
    instance_number: Mapped[int | None]
    number_of_frames: Mapped[int] = mapped_column(default=1)
    images_in_acquisition: Mapped[int | None]
    acquisition_number: Mapped[int | None]
    image_position: Mapped[list[Any] | None]  # (0020,0032), mm
    image_orientation: Mapped[list[Any] | None]  # (0020,0037)
    path: Mapped[str] = mapped_column(Text)  # below the archive
    size: Mapped[int] = mapped_column(BigInteger)  # bytes of the file
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of the file
    disposition: Mapped[str] = mapped_column(String(16), default=Disposition.ARCHIVED)
    note: Mapped[str] = mapped_column(Text, default="")  # why, for a conflict; which copies came again
    revision: Mapped[int | None]  # the study's revision that first held it; empty while receiving
    association_id: Mapped[str] = mapped_column(String(64), default="")  # which brought it; "" when unknown
    received_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]  # when retention deleted its file; empty while the archive has it

    study: Mapped[Study] = relationship(back_populates="instances")


class Quarantined(Base):
    """A received file that cannot be indexed, kept with its reason."""

    __tablename__ = "quarantined"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(Text, unique=True)  # below the quarantine
    reason: Mapped[str] = mapped_column(Text)
    association_id: Mapped[str] = mapped_column(String(64), default="")
    calling_ae_title: Mapped[str] = mapped_column(String(16), default="")
    received_at: Mapped[datetime]


class AssociationRecord(Base):
    """An association that stored something, as its host's clerk last saw it."""

    __tablename__ = "associations"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    called_ae_title: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    opened_at: Mapped[datetime]
    lease_until: Mapped[datetime]  # an open one whose clerk is silent for longer counts as closed
    closed_at: Mapped[datetime | None]
    outcome: Mapped[str] = mapped_column(String(32), default="open")  # open | released | aborted | lost


class AssociationStudy(Base):
    """Which studies an association carried."""

    __tablename__ = "association_studies"

    association_id: Mapped[str] = mapped_column(ForeignKey("associations.id"), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
