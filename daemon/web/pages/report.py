"""Page: a Structured Report as text."""

from fastapi import APIRouter
from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Viewer
from daemon.web.api.common import Number, Uid
from daemon.web.audited import note_look
from daemon.web.dicomweb.images import open_object
from daemon.web.node import Node
from daemon.web.rendering import render
from db.models import Analysis, Output, Study
from db.session import reading
from lungnode.narrative import describe
from lungnode.store import StoredFile
from lungnode.untrusted import untrusted

router = APIRouter(include_in_schema=False)


@router.get("/studies/{study_instance_uid}/revisions/{number}/report", name="report")
def show(request: Request, study_instance_uid: Uid, number: Number, node: Node, caller: Viewer) -> Response:
    """Show the report of a revision, an item a line."""
    with reading(node.engine) as session:
        row = session.execute(
            select(Output.path, Output.size, Output.digest)
            .join(Analysis, Analysis.id == Output.analysis_id)
            .join(Study, Study.id == Analysis.study_id)
            .where(Study.study_instance_uid == study_instance_uid, Analysis.revision == number)
            .where(Output.group == "sr", Output.deleted_at.is_(None))
        ).first()
    if row is None:
        raise HTTPException(404, "There is no such report.")
    note_look(node, caller, "study viewed", study_instance_uid)
    (path,) = node.outputs.fetch([StoredFile(*row)])
    report = open_object(path)
    with untrusted("The report cannot be read"):
        text = describe(report)
    values = {"text": text, "study_instance_uid": study_instance_uid, "revision": number}
    return render(request, "report.html", values)
