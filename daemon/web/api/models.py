"""REST: models."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import Path as PathParameter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.responses import Response

from daemon.web import jobs
from daemon.web.access import Operator, Viewer
from daemon.web.api.common import PREFIX, Document, Given, Number, router
from daemon.web.audited import writing
from daemon.web.node import Node, WebNode
from db.jobs import end_silent
from db.known_models import known_models, pick_model
from db.models import Job, JobState, RegisteredModel
from db.registry import end_shadow, find_model, label, place_of, roll_back, start_shadow
from db.session import reading, transaction
from lungnode.errors import UnusableError
from lungnode.model_folder import describe_model, read_card, read_metrics, verified

api = router("models")
Wanted = Annotated[
    str,
    PathParameter(
        max_length=320,
        pattern=r"^[^\x00-\x1f]+$",
        description="name, name-version or start of its digest",
    ),
]
_TEXT = r"^[^\x00]*$"


class ModelDocument(BaseModel):
    """A model that this node knows."""

    name: str
    version: str
    digest: str
    threshold: float | None
    active: bool = Field(description="studies are analysed with it")
    state: str = Field(description="candidate, active, shadow, retired; shipped or pinned")
    activated_at: datetime | None
    comparison: dict[str, Any] = Field(description="with its predecessor, when it was promoted")
    problem: str = Field(description="why it cannot be used; empty when it can")


class ModelList(BaseModel):
    """All models, the one in use first."""

    models: list[ModelDocument]


class ModelFile(ModelDocument):
    """A model with its card, recipe and figures."""

    card: str
    recipe: dict[str, Any]
    metrics: dict[str, Any]


class NewPromotion(Given):
    """What a model is measured with; without a test set, a reason is needed."""

    test_set: str = Field("", max_length=255, pattern=_TEXT, description="a frozen test set")
    reason: str = Field("", max_length=2000, pattern=_TEXT, description="why it is promoted in any case")


class Return(Given):
    """Why the model before is used again."""

    reason: str = Field("", max_length=2000, pattern=_TEXT, description="kept in the audit trail")


class JobDocument(Document):
    """Long work that somebody asked for."""

    id: int
    kind: str
    subject: str
    account: str
    state: JobState
    result: dict[str, Any]
    reason: str
    created_at: datetime
    finished_at: datetime | None


class Exchanged(BaseModel):
    """Which model a change was about."""

    model: str
    digest: str


@api.get("/models")
def list_models(node: Node, _caller: Viewer) -> ModelList:
    """List the models, and which one is in use."""
    with reading(node.engine) as session:
        known = known_models(session, node.settings)
    return ModelList(models=[ModelDocument(**each) for each in known])


@api.get("/models/{model}")
def show(model: Wanted, node: Node, _caller: Viewer) -> ModelFile:
    """Return a model's card, recipe and figures."""
    found, folder = _known(node, model)
    if found["problem"]:
        return ModelFile(**found, card="", recipe={}, metrics={})
    recipe = describe_model(folder).recipe.model_dump(mode="json")
    return ModelFile(**found, card=read_card(folder), recipe=recipe, metrics=read_metrics(folder))


@api.post("/models/{model}/promotion", status_code=202)
def promote(
    model: Wanted, how: NewPromotion, node: Node, caller: Operator, response: Response
) -> JobDocument:
    """Measure a model beside the one in use and, unless it is worse, use it; a job says how far that is."""
    _refuse_pinned(node)
    found, _ = _known(node, model)
    wanted = found["digest"] or model
    command = ["models", "promote", wanted]
    command += ["--test-set", how.test_set] if how.test_set else []
    command += ["--force", "--reason", how.reason] if how.reason.strip() else []
    job = jobs.start(node, caller, "promotion", f"{found['name']}-{found['version']}", command)
    response.headers["Location"] = f"{PREFIX}/jobs/{job.id}"
    return JobDocument.model_validate(job)


@api.post("/models/rollback")
def back(node: Node, caller: Operator, why: Return | None = None) -> Exchanged:
    """Take back the last promotion."""
    _refuse_pinned(node)
    with writing(node, caller) as session:
        _, restored = roll_back(session, node.clock(), why.reason.strip() if why else "")
        verified(place_of(restored, node.settings))  # else the transaction is rolled back
        return _exchanged(restored)


@api.put("/models/shadow/{model}")
def shadow(model: Wanted, node: Node, caller: Operator) -> Exchanged:
    """Let a registered model judge each study beside the one in use; nothing of it is sent."""
    with writing(node, caller) as session:
        row = _registered(session, model)
        start_shadow(session, row, node.clock())
        return _exchanged(row)


@api.delete("/models/shadow", status_code=204)
def no_shadow(node: Node, caller: Operator) -> None:
    """Let no model run in the shadow."""
    with writing(node, caller) as session:
        end_shadow(session, node.clock())


@api.get("/jobs/{number}")
def job(number: Number, node: Node, _caller: Operator) -> JobDocument:
    """Return how far a job is."""
    with transaction(node.engine) as session:
        end_silent(session, node.clock())
        row = session.get(Job, number)
        if row is None:
            raise HTTPException(404, f"There is no job {number}.")
        return JobDocument.model_validate(row)


def _known(node: WebNode, model: str) -> tuple[dict[str, Any], Path]:
    """Return what is known of a model, and its folder."""
    with reading(node.engine) as session:
        known = known_models(session, node.settings)
    try:
        found = pick_model(known, model)
    except UnusableError as error:
        raise HTTPException(404, str(error)) from error
    return found, Path(found["path"])


def _registered(session: Session, model: str) -> RegisteredModel:
    try:
        return find_model(session, model)
    except UnusableError as error:
        raise HTTPException(404, str(error)) from error


def _exchanged(row: RegisteredModel) -> Exchanged:
    return Exchanged(model=label(row), digest=row.digest)


def _refuse_pinned(node: WebNode) -> None:
    if node.settings.analysis.model is not None:
        raise HTTPException(409, "The setting analysis.model pins a model, whatever is promoted.")
