"""Page: who did what."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Administrator
from daemon.web.rendering import render

router = APIRouter(include_in_schema=False)


@router.get("/audit", name="audit")
def show(request: Request, caller: Administrator) -> Response:  # noqa: ARG001 - who may see it
    """Show the page."""
    return render(request, "audit.html")
