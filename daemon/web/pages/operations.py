"""Page: how the node is doing."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Operator
from daemon.web.rendering import render

router = APIRouter(include_in_schema=False)


@router.get("/operations", name="operations")
def show(request: Request, caller: Operator) -> Response:  # noqa: ARG001 - who may see it
    """Show the page."""
    return render(request, "operations.html")
