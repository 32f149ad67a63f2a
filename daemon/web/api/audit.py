"""REST: the audit trail."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from daemon.web import jobs
from daemon.web.access import Administrator
from daemon.web.api.common import PREFIX, Document, Moment, Paged, Text, link_next, router
from daemon.web.api.models import JobDocument
from daemon.web.audited import writing
from daemon.web.node import Node
from db import audit
from db.audit_trail import Wanted, everything, record_of
from db.listings import page_of_events
from db.session import reading

api = router("audit")
VERIFICATION: Final = "verification"
_LINES: Final = "application/x-ndjson"
_FILE: dict[int | str, dict[str, Any]] = {200: {"content": {_LINES: {"schema": {"type": "string"}}}}}


class EventDocument(Document):
    """Who did what."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    outcome: int
    details: dict[str, Any]


class EventList(BaseModel):
    """A page of events."""

    events: list[EventDocument]
    next: str


def wanted_events(
    since: Moment | None = None,
    until: Moment | None = None,
    action: Text = "",
    actor: Text = "",
    subject: Text = "",
    failed: Annotated[bool, Query(description="only those that did not succeed")] = False,
) -> Wanted:
    """Return which events are asked for."""
    return Wanted(since, until, action, actor, subject, failed)


Asked = Annotated[Wanted, Depends(wanted_events)]


@api.get("/audit")
def events(
    request: Request, response: Response, node: Node, caller: Administrator, page: Paged, wanted: Asked
) -> EventList:
    """List what is in the audit trail, the newest first."""
    with reading(node.engine) as session:
        found = page_of_events(session, wanted, page)
    with writing(node, caller) as session:
        audit.record(session, "audit trail read", "audit", node.clock())
    rows = [EventDocument.model_validate(row) for row in found.rows]
    return EventList(events=rows, next=link_next(request, response, found))


@api.get("/audit.jsonl", response_class=StreamingResponse, responses=_FILE)
def export(node: Node, caller: Administrator, wanted: Asked) -> StreamingResponse:
    """Return events with their PS3.15 messages, a line of JSON each, the oldest first."""
    now = node.clock()
    with writing(node, caller) as session:
        audit.record(session, "audit trail read", "audit", now, filters=wanted.named(), exported=True)
    headers = {"Content-Disposition": f'attachment; filename="audit-{now:%Y%m%dT%H%M%SZ}.jsonl"'}
    return StreamingResponse(_lines(node.engine, wanted), headers=headers, media_type=_LINES)


def _lines(engine: Engine, wanted: Wanted) -> Iterator[bytes]:
    for row in everything(engine, wanted):
        yield json.dumps(record_of(row) | {"message": row.message}).encode() + b"\n"


@api.post("/audit/verification", status_code=202)
def verify(node: Node, caller: Administrator, response: Response) -> JobDocument:
    """Compute the whole chain of the trail again; a job says what was found."""
    job = jobs.start(node, caller, VERIFICATION, "audit", ["audit", "verify"])
    response.headers["Location"] = f"{PREFIX}/jobs/{job.id}"
    return JobDocument.model_validate(job)
