"""The queue: every piece of work is a row with a state, attempts and a lease."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Float, ForeignKey, Index, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models.base import Base

if TYPE_CHECKING:
    from db.models.confirmation import Confirmation
    from db.models.studies import Study


class AnalysisState(StrEnum):
    """queued -> running -> done | not_applicable | failed -> queued ... -> quarantined."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    NOT_APPLICABLE = "not_applicable"
    FAILED = "failed"
    QUARANTINED = "quarantined"


# Something still comes of them by itself.
UNFINISHED_ANALYSES: Final = (AnalysisState.QUEUED, AnalysisState.RUNNING, AnalysisState.FAILED)


class DeliveryState(StrEnum):
    """pending -> sending -> stored -> committed | refused (permanent) | dead | withdrawn (never sent)."""

    PENDING = "pending"
    SENDING = "sending"
    STORED = "stored"
    COMMITTED = "committed"
    REFUSED = "refused"
    DEAD = "dead"
    WITHDRAWN = "withdrawn"  # its result does not count any more, so it is not sent


class Analysis(Base):
    """One analysis of one revision of a study: work to do, then its result."""

    __tablename__ = "analyses"
    __table_args__ = (
        UniqueConstraint("study_id", "revision"),
        # In the order in which rows of one state are claimed.
        Index("ix_analyses_due", "state", "priority", "turn", "due_at", "id"),
        Index("ix_analyses_turns_of_source", "state", "priority", "source", "turn"),
        Index("ix_analyses_finished_at", "finished_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    revision: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), default=AnalysisState.QUEUED)
    priority: Mapped[int] = mapped_column(default=5)
    source: Mapped[str] = mapped_column(String(16), default="", server_default="")  # AE title it came from
    turn: Mapped[int] = mapped_column(default=0, server_default="0")  # of its source, see db/analyses.py
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
    # Of the slices that the model saw: slices, spacing_mm, gray_mean, gray_sd.
    input_statistics: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    withdrawn: Mapped[str] = mapped_column(Text, default="")  # why its results do not count any more
    # Of a corrected report: reader, value and remark, which it states above what the model finds.
    reading: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")

    study: Mapped["Study"] = relationship(back_populates="analyses")
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
    is_summary: Mapped[bool] = mapped_column(default=False, server_default=false())  # page of the heatmaps
    path: Mapped[str] = mapped_column(Text)  # below the outputs
    size: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    deleted_at: Mapped[datetime | None]  # when retention deleted its file

    analysis: Mapped[Analysis] = relationship(back_populates="outputs")


class Delivery(Base):
    """One output group on its way to one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("analysis_id", "destination", "group"),
        Index("ix_deliveries_due", "state", "priority", "due_at"),
        Index("ix_deliveries_finished_at", "finished_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id"))
    destination: Mapped[str] = mapped_column(String(255))
    group: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default=DeliveryState.PENDING)
    priority: Mapped[int] = mapped_column(default=5, server_default="5")  # the analysis's
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    woken_at: Mapped[datetime | None]
    lease_owner: Mapped[str] = mapped_column(String(255), default="")
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    # When the class of a report was fixed: before its first byte, for another class is another object.
    negotiated_at: Mapped[datetime | None]
    # The last failure, in the peer's words where it had any, and what an operator can do about it.
    reason: Mapped[str] = mapped_column(Text, default="")
    advice: Mapped[str] = mapped_column(Text, default="", server_default="")
    message: Mapped[str] = mapped_column(Text, default="", server_default="")  # composed before it is sent
    # {sop_instance_uid or message, status, meaning, comment, advice, tries} each
    instances: Mapped[list[Any]] = mapped_column(default=list)

    analysis: Mapped[Analysis] = relationship(back_populates="deliveries")
    confirmation: Mapped["Confirmation | None"] = relationship(back_populates="delivery")
