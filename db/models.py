"""The tables. The database is the queue: every piece of work is a row with a state, attempts and a lease."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, kept in UTC; SQLite stores no zone, so it is put back when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Turn an aware time into UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a time without a zone reached the database: {value!r}")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Put the zone back."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy, never changed
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON(none_as_null=True),
    }


class StudyState(StrEnum):
    """Where a study stands between its first slice and its last."""

    RECEIVING = "receiving"
    COMPLETE = "complete"


class Disposition(StrEnum):
    """What the clerk did with an instance."""

    ARCHIVED = "archived"
    CONFLICT = "conflict"  # same SOP Instance UID as another, other pixels: kept beside it, never analysed
    OWN_OUTPUT = "own_output"  # one of our results came back


class AnalysisState(StrEnum):
    """queued -> running -> done | not_applicable | failed -> queued ... -> quarantined."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    NOT_APPLICABLE = "not_applicable"
    FAILED = "failed"
    QUARANTINED = "quarantined"


class DeliveryState(StrEnum):
    """pending -> sending -> stored -> committed | refused (permanent) | dead."""

    PENDING = "pending"
    SENDING = "sending"
    STORED = "stored"
    COMMITTED = "committed"
    REFUSED = "refused"
    DEAD = "dead"


class LabelValue(StrEnum):
    """What a label says of a study."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    UNCERTAIN = "uncertain"


class LabelSource(StrEnum):
    """Where a label comes from."""

    RT_PCR = "rt-pcr"
    READER = "reader"
    CLINICAL = "clinical"
    IMPORT = "import"


class ModelState(StrEnum):
    """What a registered model is used for; at most one is active, at most one in the shadow."""

    CANDIDATE = "candidate"
    ACTIVE = "active"
    SHADOW = "shadow"
    RETIRED = "retired"  # was active once


class Study(Base):
    """One study as received; text attributes are the decoded values of its first instance."""

    __tablename__ = "studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    patient_id: Mapped[str] = mapped_column(String(255), default="", index=True)
    patient_name: Mapped[str] = mapped_column(String(255), default="")
    patient_birth_date: Mapped[str] = mapped_column(String(16), default="")
    patient_sex: Mapped[str] = mapped_column(String(16), default="")
    accession_number: Mapped[str] = mapped_column(String(64), default="", index=True)
    study_date: Mapped[str] = mapped_column(String(16), default="", index=True)
    study_description: Mapped[str] = mapped_column(String(255), default="")
    calling_ae_title: Mapped[str] = mapped_column(String(16), default="")
    called_ae_title: Mapped[str] = mapped_column(String(16), default="")
    address: Mapped[str] = mapped_column(String(64), default="")
    rule: Mapped[str] = mapped_column(String(255), default="")  # "" when none matched: the defaults apply
    state: Mapped[str] = mapped_column(String(16), default=StudyState.RECEIVING, index=True)
    revision: Mapped[int] = mapped_column(default=0)  # the last one judged complete; 0 before the first
    completeness: Mapped[str] = mapped_column(String(255), default="")  # as of the last revision
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime] = mapped_column(index=True)  # when its last new instance was received

    instances: Mapped[list["Instance"]] = relationship(back_populates="study")
    analyses: Mapped[list["Analysis"]] = relationship(back_populates="study")
    labels: Mapped[list["Label"]] = relationship(back_populates="study", order_by="Label.id")


class Instance(Base):
    """One received SOP instance and where its file is."""

    __tablename__ = "instances"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
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


class Analysis(Base):
    """One analysis of one revision of a study: work to do, then its result."""

    __tablename__ = "analyses"
    __table_args__ = (
        UniqueConstraint("study_id", "revision"),
        Index("ix_analyses_due", "state", "priority", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    revision: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), default=AnalysisState.QUEUED)
    priority: Mapped[int] = mapped_column(default=5)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    woken_at: Mapped[datetime | None]  # when a worker was last told of it
    lease_owner: Mapped[str] = mapped_column(String(255), default="")
    lease_until: Mapped[datetime | None]
    completeness: Mapped[str] = mapped_column(String(255), default="")
    created_at: Mapped[datetime]  # every date in our outputs is this one
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    model: Mapped[str] = mapped_column(String(255), default="")
    model_digest: Mapped[str] = mapped_column(String(64), default="")
    runtime: Mapped[str] = mapped_column(String(64), default="")  # what ran the model: "openvino int8"
    verdict: Mapped[str] = mapped_column(String(16), default="")
    probability: Mapped[float | None] = mapped_column(Float)
    threshold: Mapped[float | None] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text, default="")  # why there is no verdict; the last error
    error: Mapped[str] = mapped_column(Text, default="")  # traceback of the last failure
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)  # series choice, coverage, slices
    phases: Mapped[dict[str, Any]] = mapped_column(default=dict)  # seconds by phase

    study: Mapped[Study] = relationship(back_populates="analyses")
    outputs: Mapped[list["Output"]] = relationship(back_populates="analysis", order_by="Output.id")
    deliveries: Mapped[list["Delivery"]] = relationship(back_populates="analysis", order_by="Delivery.id")


class Output(Base):
    """One composed SOP instance, committed before anything is sent."""

    __tablename__ = "outputs"

    id: Mapped[int] = mapped_column(primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id"), index=True)
    group: Mapped[str] = mapped_column(String(16))  # sent as one: sr | sc | pm, with a variant after a dash
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    path: Mapped[str] = mapped_column(Text)  # below the outputs
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))

    analysis: Mapped[Analysis] = relationship(back_populates="outputs")


class Delivery(Base):
    """One output group on its way to one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("analysis_id", "destination", "group"),
        Index("ix_deliveries_due", "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id"))
    destination: Mapped[str] = mapped_column(String(255))
    group: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    woken_at: Mapped[datetime | None]
    lease_owner: Mapped[str] = mapped_column(String(255), default="")
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(
        Text, default=""
    )  # the last failure, in the peer's words where it had any
    instances: Mapped[list[Any]] = mapped_column(default=list)  # {sop_instance_uid, status, comment} each

    analysis: Mapped[Analysis] = relationship(back_populates="deliveries")


class Label(Base):
    """What one reader or test said of a study; several are kept side by side."""

    __tablename__ = "labels"
    __table_args__ = (UniqueConstraint("study_id", "source", "reader", "labelled_on"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    value: Mapped[str] = mapped_column(String(16))  # positive | negative | uncertain
    source: Mapped[str] = mapped_column(String(16))  # rt-pcr | reader | clinical | import
    reader: Mapped[str] = mapped_column(String(255), default="")
    labelled_on: Mapped[str] = mapped_column(String(10), default="")  # YYYY-MM-DD
    symptomatic: Mapped[bool | None]
    created_at: Mapped[datetime]

    study: Mapped[Study] = relationship(back_populates="labels")


class TestSet(Base):
    """Patients that are never trained on, frozen once."""

    __tablename__ = "test_sets"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    digest: Mapped[str] = mapped_column(String(64))  # SHA-256 of its studies and their labels
    created_at: Mapped[datetime]

    members: Mapped[list["TestSetMember"]] = relationship(back_populates="test_set")


class TestSetMember(Base):
    """One study of a frozen test set, with the label it was frozen with."""

    __tablename__ = "test_set_members"

    test_set_id: Mapped[int] = mapped_column(ForeignKey("test_sets.id"), primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), primary_key=True, index=True)
    value: Mapped[str] = mapped_column(String(16))

    test_set: Mapped[TestSet] = relationship(back_populates="members")


class RegisteredModel(Base):
    """A model that was taken into the registry; its folder lies below the models."""

    __tablename__ = "models"
    # The database itself refuses a second active or a second shadow model, whoever promotes at once.
    __table_args__ = (
        Index(
            "ix_models_in_use",
            "state",
            unique=True,
            sqlite_where=text("state IN ('active', 'shadow')"),
            postgresql_where=text("state IN ('active', 'shadow')"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    version: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    path: Mapped[str] = mapped_column(Text)  # below the models
    state: Mapped[str] = mapped_column(String(16), default=ModelState.CANDIDATE)
    predecessor_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))  # which was active before it
    comparison: Mapped[dict[str, Any]] = mapped_column(default=dict)  # with the active one, when promoted
    created_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]


class ShadowResult(Base):
    """What a shadow model said of an analysis; it is compared and never sent."""

    __tablename__ = "shadow_results"
    __table_args__ = (UniqueConstraint("analysis_id", "model_digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id"))
    model: Mapped[str] = mapped_column(String(255))
    model_digest: Mapped[str] = mapped_column(String(64))
    verdict: Mapped[str] = mapped_column(String(16))
    probability: Mapped[float | None] = mapped_column(Float)
    threshold: Mapped[float] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text, default="")  # why there is no verdict
    seconds: Mapped[float] = mapped_column(Float)
    created_at: Mapped[datetime]


class AuditEvent(Base):
    """Who did what to labels, models and studies."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(255))  # the account that ran the command
    action: Mapped[str] = mapped_column(String(64))  # a noun and a verb: "model promoted"
    subject: Mapped[str] = mapped_column(String(255))  # what it was done to: a UID, a digest
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
