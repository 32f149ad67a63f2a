"""Page: the models that this node knows."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Viewer
from daemon.web.rendering import render

router = APIRouter(include_in_schema=False)


@router.get("/models", name="models")
def show(request: Request, caller: Viewer) -> Response:  # noqa: ARG001 - who may see it
    """Show the page."""
    return render(request, "models.html")
