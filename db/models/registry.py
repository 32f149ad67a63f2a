"""The models that a node knows, and what one in the shadow said."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base


class ModelState(StrEnum):
    """What a registered model is used for; at most one is active, at most one in the shadow."""

    CANDIDATE = "candidate"
    ACTIVE = "active"
    SHADOW = "shadow"
    RETIRED = "retired"  # was active once


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
