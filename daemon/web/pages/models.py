"""Page: the models that this node knows, how good they are, and whether the one in use still is."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import POLL_HEADER, Viewer
from daemon.web.node import Node, WebNode
from daemon.web.pages.drift import PERIODS, SHORT, STATISTICS, drift_of, edges_of
from daemon.web.pages.figures import NAMES, Shown, node_curves, shown, stored_curves
from daemon.web.rendering import render
from db.drift import labelled_scores, labelled_shadow_scores, said_by_readers, sample_results
from db.jobs import last_jobs
from db.known_models import known_models
from db.models import Job, ModelState, RegisteredModel, TestSet
from db.registry import active_model, label
from db.session import reading
from db.shadows import shadow_pairs

router = APIRouter(include_in_schema=False)
_NEWS = timedelta(days=1)
_PAIRS = 1_000  # of the shadow and the model in use, the newest


@router.get("/models", name="models")
def show(request: Request, node: Node, caller: Viewer, weeks: int = SHORT) -> Response:
    """Show the page; one that only looks how far a promotion is gets that alone."""
    is_poll, weeks = POLL_HEADER in request.headers, weeks if weeks in PERIODS else SHORT
    values: dict[str, Any] = {"is_poll": is_poll, "weeks": weeks, "job": None}
    with reading(node.engine) as session:
        if caller.may("operate"):
            values["job"] = _last_promotion(session, node.clock())
        if not is_poll:
            models = [shown(each) for each in known_models(session, node.settings)]
            values |= _of_models(session, node, models) | _over_time(session, node, models[0], weeks)
    return render(request, "models.html", values)


def _last_promotion(session: Session, now: datetime) -> Job | None:
    """Return the last one while it is at work, and for a day afterwards."""
    job = next(iter(last_jobs(session, "promotion", 1)), None)
    is_old = job is not None and job.finished_at is not None and now - job.finished_at > _NEWS
    return None if is_old else job


def _of_models(session: Session, node: WebNode, models: Sequence[Shown]) -> dict[str, Any]:
    used, shadow = models[0], _in_shadow(models)
    active = active_model(session)
    before = session.get(RegisteredModel, active.predecessor_id) if active and active.predecessor_id else None
    scores = [(used.name, labelled_scores(session, used.known["digest"]))]
    if shadow is not None:
        scores.append((shadow.name, labelled_shadow_scores(session, shadow.known["digest"])))
    return {
        "models": models,
        "used": used,
        "shadow": shadow,
        "beside": _beside(session, shadow),
        "before": label(before) if before else "",
        "is_pinned": node.settings.analysis.model is not None,
        "test_sets": session.scalars(select(TestSet.name).order_by(TestSet.name)).all(),
        "names": NAMES,
        "stored": stored_curves(models),
        "own": node_curves(scores),
    }


def _in_shadow(models: Sequence[Shown]) -> Shown | None:
    return next((each for each in models if each.known["state"] == ModelState.SHADOW), None)


def _beside(session: Session, shadow: Shown | None) -> dict[str, Any] | None:
    """Return how far the shadow agrees with what was reported."""
    pairs = shadow_pairs(session, shadow.known["digest"], _PAIRS) if shadow else []
    both = [
        (pair, pair.shadow.probability - pair.active.probability)
        for pair in pairs
        if pair.shadow.probability is not None and pair.active.probability is not None
    ]
    if not both:
        return None
    other = [pair for pair, _ in both if pair.shadow.verdict != pair.active.verdict]
    return {
        "n": len(both),
        "same": 1 - len(other) / len(both),
        "difference": sum(difference for _, difference in both) / len(both),
        "changed": other[-1:-6:-1],
    }


def _over_time(session: Session, node: WebNode, used: Shown, weeks: int) -> dict[str, Any]:
    digest, edges = used.known["digest"], edges_of(node.clock(), weeks)
    readers = said_by_readers(session, digest, edges)
    said = {name: sum(step[name] for step in readers) for name in readers[0]}
    certain = said["agree"] + said["disagree"]
    return {
        "drift": drift_of(sample_results(session, digest, edges), edges),
        "statistics": STATISTICS,
        "periods": tuple(PERIODS),
        "said": said,
        "agreed": said["agree"] / certain if certain else None,
    }
