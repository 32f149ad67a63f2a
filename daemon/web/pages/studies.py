"""Page: the table of studies."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Viewer
from daemon.web.rendering import render

router = APIRouter(include_in_schema=False)


@router.get("/", name="studies")
def show(request: Request, caller: Viewer) -> Response:  # noqa: ARG001 - who may see it
    """Show the page."""
    return render(request, "studies.html")
