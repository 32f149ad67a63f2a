"""REST: results, page by page or all of them as a table."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from daemon.web.access import Viewer
from daemon.web.api.common import Moment, Paged, Wanted, link_next, router
from daemon.web.api.documents import AnalysisSummary
from daemon.web.audited import note_look, writing
from daemon.web.export import as_csv, as_parquet
from daemon.web.node import Node
from db import audit
from db.listings import ResultFilter, count_results, list_results
from db.models import Analysis
from db.session import reading

api = router("results")
_FILE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
_PARQUET = "application/vnd.apache.parquet"
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {_PARQUET: _BYTES}}}

Every = Annotated[bool, Query(description="also earlier revisions")]
Since = Annotated[Moment | None, Query(description="finished from then on")]
Until = Annotated[Moment | None, Query(description="finished before")]


class ResultDocument(AnalysisSummary):
    """A result with what names its study."""

    study_instance_uid: str
    patient_id: str
    accession_number: str
    study_date: str

    @classmethod
    def of(cls, row: Analysis) -> "ResultDocument":
        """Return a result whose study is loaded."""
        whole = AnalysisSummary.model_validate(row).model_dump()
        names = ("study_instance_uid", "patient_id", "accession_number", "study_date")
        return cls(**whole, **{name: getattr(row.study, name) for name in names})


class ResultList(BaseModel):
    """A page of results."""

    results: list[ResultDocument]
    next: str


@api.get("/results")
def list_(  # noqa: PLR0913, PLR0917 - one parameter a dependency
    request: Request,
    response: Response,
    node: Node,
    caller: Viewer,
    wanted: Wanted,
    page: Paged,
    every_revision: Every = False,
    since: Since = None,
    until: Until = None,
) -> ResultList:
    """List results, the newest first."""
    asked = ResultFilter(wanted.search(), every_revision, since, until)
    with reading(node.engine) as session:
        found = list_results(session, asked, page)
    note_look(node, caller, "results listed", "results", filters=wanted.named())
    rows = [ResultDocument.of(row) for row in found.rows]
    return ResultList(results=rows, next=link_next(request, response, found))


@api.get("/results.csv", response_class=StreamingResponse, responses=_FILE)
def csv(
    node: Node,
    caller: Viewer,
    wanted: Wanted,
    every_revision: Every = False,
    since: Since = None,
    until: Until = None,
) -> StreamingResponse:
    """Return results as a CSV file, the oldest first; Lungnode-Rows says how many rows follow."""
    asked = ResultFilter(wanted.search(), every_revision, since, until)
    headers = _exported(node, caller, asked, wanted, "csv")
    return StreamingResponse(as_csv(node.engine, asked), headers=headers, media_type="text/csv")


@api.get("/results.parquet", response_class=StreamingResponse, responses=_BINARY)
def parquet(
    node: Node,
    caller: Viewer,
    wanted: Wanted,
    every_revision: Every = False,
    since: Since = None,
    until: Until = None,
) -> StreamingResponse:
    """Return results as a Parquet file; otherwise as the CSV file."""
    asked = ResultFilter(wanted.search(), every_revision, since, until)
    headers = _exported(node, caller, asked, wanted, "parquet")
    return StreamingResponse(as_parquet(node.engine, asked), headers=headers, media_type=_PARQUET)


def _exported(node: Node, caller: Viewer, asked: ResultFilter, wanted: Wanted, kind: str) -> dict[str, str]:
    """Note the export in the audit and return its headers."""
    with writing(node, caller) as session:
        count = count_results(session, asked)
        now = node.clock()
        told = {"rows": count, "format": kind, "filters": wanted.named()}
        audit.record(session, "results exported", "results", now, **told)
    name = f"results-{_stamp(now)}.{kind}"
    return {"Content-Disposition": f'attachment; filename="{name}"', "Lungnode-Rows": str(count)}


def _stamp(now: datetime) -> str:
    return f"{now:%Y%m%dT%H%M%SZ}"
