"""What a model said lately and what it was given: a bounded sample; the caller owns the transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Agreement, Analysis, Feedback, Label, LabelValue, ShadowResult, Study

MOST: Final = 500  # studies of a step: enough for every figure, and no more is ever read
_LABELS: Final = 2_000
_CERTAIN: Final = (LabelValue.POSITIVE, LabelValue.NEGATIVE)


@dataclass(frozen=True)
class Result:
    """What was said of one study."""

    source: str  # calling AE title
    is_positive: bool
    probability: float
    statistics: dict[str, float]  # of what the model saw, by name


def sample_results(session: Session, digest: str, edges: Sequence[datetime]) -> list[list[Result]]:
    """Return the newest results of a model in each step between two edges, at most 500 a step."""
    columns = (Study.calling_ae_title, Analysis.verdict, Analysis.probability, Analysis.input_statistics)
    query: Any = select(*columns).join(Study, Study.id == Analysis.study_id)
    query = query.where(Analysis.model_digest == digest, Analysis.probability.is_not(None))
    query = query.order_by(Analysis.finished_at.desc()).limit(MOST)
    steps = []
    for begin, end in pairwise(edges):
        rows = session.execute(query.where(Analysis.finished_at >= begin, Analysis.finished_at < end))
        steps.append([Result(source, said == "positive", p, given or {}) for source, said, p, given in rows])
    return steps


def labelled_scores(session: Session, digest: str) -> list[tuple[float, bool]]:
    """Return probability and truth of the studies that were labelled last and whose result is a model's.

    Of several labels the newest counts. At most 2,000 labels are looked at.
    """
    query: Any = (
        select(Label.study_id, Label.value, Analysis.probability)
        .join(Study, Study.id == Label.study_id)
        .join(Analysis, Analysis.id == Study.last_analysis_id)
        .where(Analysis.model_digest == digest, Analysis.probability.is_not(None))
    )
    return _scores(session, query)


def labelled_shadow_scores(session: Session, digest: str) -> list[tuple[float, bool]]:
    """Return the same of a model in the shadow."""
    query: Any = (
        select(Label.study_id, Label.value, ShadowResult.probability)
        .join(Study, Study.id == Label.study_id)
        .join(ShadowResult, ShadowResult.analysis_id == Study.last_analysis_id)
        .where(ShadowResult.model_digest == digest, ShadowResult.probability.is_not(None))
    )
    return _scores(session, query)


def _scores(session: Session, query: Any) -> list[tuple[float, bool]]:
    newest = query.where(Label.value.in_(_CERTAIN)).order_by(Label.id.desc()).limit(_LABELS)
    found: dict[int, tuple[float, bool]] = {}
    for study_id, value, probability in session.execute(newest):
        found.setdefault(study_id, (probability, value == LabelValue.POSITIVE))
    return list(found.values())


def said_by_readers(session: Session, digest: str, edges: Sequence[datetime]) -> list[dict[str, int]]:
    """Count in each step how often readers agreed with a model, did not, or were not certain."""
    query: Any = (
        select(Feedback.changed_at, Feedback.agreement)
        .join(Analysis, Analysis.id == Feedback.analysis_id)
        .where(Analysis.model_digest == digest, Feedback.changed_at >= edges[0])
        .order_by(Feedback.id.desc())
        .limit(_LABELS)
    )
    steps = [dict.fromkeys(map(str, Agreement), 0) for _ in pairwise(edges)]
    for at, said in session.execute(query):
        step = next((index for index, end in enumerate(edges[1:]) if at < end), None)
        if step is not None:
            steps[step][said] += 1
    return steps
