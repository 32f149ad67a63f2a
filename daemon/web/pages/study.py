"""Page: one study."""

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Viewer
from daemon.web.audited import note
from daemon.web.node import Node
from daemon.web.rendering import render
from db.queries import get_study
from db.session import transaction
from lungnode.errors import UnusableError

router = APIRouter(include_in_schema=False)


@router.get("/studies/{study_instance_uid}", name="study")
def show(request: Request, study_instance_uid: str, node: Node, caller: Viewer) -> Response:
    """Show the page."""
    with transaction(node.engine) as session:
        try:
            study = get_study(session, study_instance_uid)
        except UnusableError as error:
            raise HTTPException(404, str(error)) from error
        note(session, caller.name, "study viewed", study_instance_uid, node.clock())
    return render(request, "study.html", {"study": study})
