"""REST: what readers say of results, and labels."""

from datetime import date, datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Judge, Viewer
from daemon.web.api.common import Document, Given, Paged, Text, Uid, link_next, router, study_of
from daemon.web.api.documents import LabelDocument, Queued
from daemon.web.audited import note_look, writing
from daemon.web.node import Node
from db.feedback import Said, correct_report, give_feedback
from db.label_policy import Opinion
from db.labels import set_label
from db.listings import page_of_labels
from db.models import Agreement, LabelSource, LabelValue
from db.session import reading

api = router("labels")
_TEXT = r"^[^\x00]*$"


class FeedbackDocument(Document):
    """What a reader said of a result."""

    reader: str
    agreement: Agreement
    value: LabelValue
    remark: str
    created_at: datetime
    changed_at: datetime


class NewFeedback(Given):
    """What a reader says of the last result of a study."""

    agreement: Agreement
    value: LabelValue | None = Field(None, description="what the study shows; needed to disagree")
    remark: str = Field("", max_length=2000, pattern=_TEXT)


class NewLabel(Given):
    """A label that somebody else than the caller gave, for example a laboratory."""

    value: LabelValue
    source: LabelSource
    reader: str = Field("", max_length=255, pattern=_TEXT, description="who gave it")
    labelled_on: date | None = None
    symptomatic: bool | None = None


class LabelList(BaseModel):
    """A page of labels."""

    labels: list[LabelDocument]
    next: str


@api.put("/studies/{study_instance_uid}/feedback")
def give(study_instance_uid: Uid, new: NewFeedback, node: Node, caller: Judge) -> FeedbackDocument:
    """Say what you think of the result; it becomes your label, and what you said before is replaced."""
    said = Said(caller.name, new.agreement, new.value, new.remark.strip())
    with writing(node, caller) as session:
        row = give_feedback(session, study_of(session, study_instance_uid), said, node.clock())
        return FeedbackDocument.model_validate(row)


@api.post("/studies/{study_instance_uid}/corrected-report", status_code=202)
def correct(study_instance_uid: Uid, node: Node, caller: Judge) -> Queued:
    """Queue a report that states what you said of the last result; it names the one before as predecessor."""
    with writing(node, caller) as session:
        row = correct_report(session, study_of(session, study_instance_uid), caller.name, node.clock())
        return Queued(study_instance_uid=study_instance_uid, revision=row.revision)


@api.get("/labels")
def list_labels(
    request: Request,
    response: Response,
    node: Node,
    caller: Viewer,
    page: Paged,
    study_instance_uid: Annotated[Text, Query(description="of this study alone")] = "",
) -> LabelList:
    """List labels, the newest first."""
    with reading(node.engine) as session:
        found = page_of_labels(session, study_instance_uid, page)
    note_look(node, caller, "labels listed", study_instance_uid or "labels")
    labels = [LabelDocument.of(row) for row in found.rows]
    return LabelList(labels=labels, next=link_next(request, response, found))


@api.post("/studies/{study_instance_uid}/labels", status_code=201)
def add_label(study_instance_uid: Uid, new: NewLabel, node: Node, caller: Judge) -> LabelDocument:
    """Add a label; one of the same source, reader and date is updated."""
    day = new.labelled_on.isoformat() if new.labelled_on else ""
    opinion = Opinion(new.value, new.source, new.reader.strip(), day, new.symptomatic)
    now = node.clock()
    with writing(node, caller) as session:
        study = study_of(session, study_instance_uid)
        set_label(session, study, opinion, now)
        session.flush()
        session.refresh(study, ["labels"])
        key = (opinion.source, opinion.reader, opinion.labelled_on)
        row = next(each for each in study.labels if (each.source, each.reader, each.labelled_on) == key)
        return LabelDocument.of(row)
