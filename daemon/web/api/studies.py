"""REST: studies."""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Operator, Viewer
from daemon.web.api.common import Given, Paged, Uid, Wanted, link_next, router, study_of
from daemon.web.api.documents import (
    AnalysisDocument,
    LabelDocument,
    Queued,
    SeriesDocument,
    StudyDocument,
    StudySummary,
)
from daemon.web.api.feedback import FeedbackDocument
from daemon.web.audited import note_look, writing
from daemon.web.node import Node
from db.changes import reanalyse
from db.feedback import list_feedback
from db.paging import Page
from db.queries import list_series
from db.search import Order, count_studies, search_studies
from db.session import reading

api = router("studies")


class StudyList(BaseModel):
    """A page of studies."""

    studies: list[StudySummary]
    next: str = Field(description="`after` of the next page; empty when this is the last one")


class Count(BaseModel):
    """How many there are."""

    count: int


class StudyFile(StudyDocument):
    """Everything that is known of a study."""

    series: list[SeriesDocument]
    analyses: list[AnalysisDocument]
    labels: list[LabelDocument]
    feedback: list[FeedbackDocument]


class Reanalysis(Given):
    """How a study is analysed again."""

    priority: int = Field(5, ge=0, le=9, description="0 first, 9 last")


@api.get("/studies")
def list_studies(  # noqa: PLR0913, PLR0917 - one parameter a dependency
    request: Request,
    response: Response,
    node: Node,
    caller: Viewer,
    wanted: Wanted,
    page: Paged,
    order: Annotated[Order, Query(description="what the list is sorted by")] = Order.CHANGED,
    ascending: Annotated[bool, Query(description="the smallest first")] = False,
) -> StudyList:
    """List studies, by default the one that changed last first."""
    with reading(node.engine) as session:
        found = search_studies(session, wanted.search(), Page(page.after, page.limit, not ascending), order)
    note_look(node, caller, "studies listed", "studies", filters=wanted.named())
    return StudyList(
        studies=[StudySummary.of(row) for row in found.rows], next=link_next(request, response, found)
    )


@api.get("/studies/count")
def count(node: Node, caller: Viewer, wanted: Wanted) -> Count:
    """Count studies."""
    with reading(node.engine) as session:
        found = count_studies(session, wanted.search())
    # A count of one tells as much as a list does.
    note_look(node, caller, "studies listed", "studies", filters=wanted.named())
    return Count(count=found)


@api.get("/studies/{study_instance_uid}")
def show(study_instance_uid: Uid, node: Node, caller: Viewer) -> StudyFile:
    """Return everything that is known of a study."""
    with reading(node.engine) as session:
        study = study_of(session, study_instance_uid)
        document = StudyFile(
            **StudyDocument.model_validate(study).model_dump(),
            series=[SeriesDocument.model_validate(each) for each in list_series(session, study)],
            analyses=[AnalysisDocument.of(each) for each in study.analyses],
            labels=[LabelDocument.of(each) for each in study.labels],
            feedback=[FeedbackDocument.model_validate(each) for each in list_feedback(session, study)],
        )
    note_look(node, caller, "study viewed", study_instance_uid)
    return document


@api.post("/studies/{study_instance_uid}/reanalysis", status_code=202)
def analyse_again(study_instance_uid: Uid, how: Reanalysis, node: Node, caller: Operator) -> Queued:
    """Queue a new revision of the same instances."""
    with writing(node, caller) as session:
        row = reanalyse(session, study_of(session, study_instance_uid), how.priority, node.clock())
        return Queued(study_instance_uid=study_instance_uid, revision=row.revision)
