"""The documents of the REST interface about studies and their results."""

from datetime import datetime
from typing import Any

from pydantic import Field

from daemon.web.api.common import Document
from db.models import Analysis, AnalysisState, Delivery, DeliveryState, Label, LabelSource, LabelValue
from db.search import StudyRow


class AnalysisSummary(Document):
    """What came of an analysis."""

    revision: int
    state: AnalysisState
    verdict: str = Field(
        description="positive, negative, undetermined, not_applicable, error; empty without one"
    )
    probability: float | None
    threshold: float | None
    reason: str
    model: str
    model_digest: str
    withdrawn: str = Field(description="why its results do not count any more; empty when they do")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class StudyDocument(Document):
    """A study as it was received."""

    study_instance_uid: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    study_date: str
    study_description: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    rule: str
    state: str
    revision: int
    completeness: str
    created_at: datetime
    changed_at: datetime


class StudySummary(StudyDocument):
    """One line of a list of studies."""

    series: int
    instances: int
    analysis: AnalysisSummary | None = Field(description="the last one")

    @classmethod
    def of(cls, row: StudyRow) -> "StudySummary":
        """Return a line."""
        whole = StudyDocument.model_validate(row.study).model_dump()
        return cls(
            **whole,
            series=row.series,
            instances=row.instances,
            analysis=AnalysisSummary.model_validate(row.analysis) if row.analysis else None,
        )


class SeriesDocument(Document):
    """One series of a study."""

    series_instance_uid: str
    modality: str
    disposition: str
    instances: int
    frames: int
    size: int


class OutputDocument(Document):
    """One object that we composed."""

    group: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    size: int
    digest: str
    deleted_at: datetime | None


class DeliveryDocument(Document):
    """One output group on its way to one destination."""

    id: int
    study_instance_uid: str
    revision: int
    destination: str
    group: str
    state: DeliveryState
    attempts: int
    due_at: datetime
    created_at: datetime
    finished_at: datetime | None
    reason: str
    advice: str
    instances: list[dict[str, Any]] = Field(description="what the peer said of each instance")

    @classmethod
    def of(cls, row: Delivery) -> "DeliveryDocument":
        """Return a delivery whose analysis and study are loaded."""
        own = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        uid = row.analysis.study.study_instance_uid
        return cls(**own | {"study_instance_uid": uid, "revision": row.analysis.revision})


class LabelDocument(Document):
    """What somebody said of a study."""

    study_instance_uid: str
    value: LabelValue
    source: LabelSource
    reader: str
    labelled_on: str
    symptomatic: bool | None
    created_at: datetime

    @classmethod
    def of(cls, row: Label) -> "LabelDocument":
        """Return a label whose study is loaded."""
        own = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        return cls(**own | {"study_instance_uid": row.study.study_instance_uid})


class Queued(Document):
    """An analysis that was queued."""

    study_instance_uid: str
    revision: int


class AnalysisDocument(AnalysisSummary):
    """An analysis with its choice, its slices, and what was made and sent."""

    completeness: str
    attempts: int
    runtime: str
    phases: dict[str, Any] = Field(description="seconds by phase")
    details: dict[str, Any] = Field(description="series choice and probability by slice")
    reading: dict[str, Any] = Field(description="of a corrected report: reader, value, remark; else empty")
    outputs: list[OutputDocument]
    deliveries: list[DeliveryDocument]

    @classmethod
    def of(cls, row: Analysis) -> "AnalysisDocument":
        """Return an analysis whose outputs and deliveries are loaded."""
        own = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        own["outputs"] = [OutputDocument.model_validate(each) for each in row.outputs]
        own["deliveries"] = [DeliveryDocument.of(each) for each in row.deliveries]
        return cls(**own)
