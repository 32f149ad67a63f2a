"""Page: classify a file of one's own."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Uploader
from daemon.web.rendering import render

router = APIRouter(include_in_schema=False)


@router.get("/upload", name="upload")
def show(request: Request, caller: Uploader) -> Response:  # noqa: ARG001 - who may see it
    """Show the page."""
    return render(request, "upload.html")
