"""What the shadow said beside what was reported; the caller owns the transaction."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.labels import patient_of
from db.models import Analysis, ShadowResult, Study


@dataclass(frozen=True)
class Said:
    """What one model said of a study."""

    verdict: str
    probability: float | None
    threshold: float


@dataclass(frozen=True)
class Pair:
    """One study as both models saw it."""

    study_instance_uid: str
    revision: int
    patient: str
    active_digest: str
    active_model: str
    active: Said
    shadow: Said


def shadow_pairs(session: Session, digest: str, limit: int | None = None) -> list[Pair]:
    """Return the last analysis of each study that a shadow model judged, in the order they were done.

    With a limit only so many of its results are looked at, the newest.
    """
    query = (
        select(Study, Analysis, ShadowResult)
        .join(Analysis, Analysis.study_id == Study.id)
        .join(ShadowResult, ShadowResult.analysis_id == Analysis.id)
        .where(ShadowResult.model_digest == digest)
        .order_by(ShadowResult.id.desc())
        .limit(limit)
    )
    last: dict[int, Pair] = {}
    for study, analysis, result in reversed(session.execute(query).all()):
        last.pop(study.id, None)
        last[study.id] = Pair(
            study.study_instance_uid,
            analysis.revision,
            patient_of(study),
            analysis.model_digest,
            analysis.model,
            Said(analysis.verdict, analysis.probability, analysis.threshold or 0.0),
            Said(result.verdict, result.probability, result.threshold),
        )
    return list(last.values())
