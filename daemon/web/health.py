"""Whether the web lives and can work."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from daemon.web.node import Node
from db.session import is_current

router = APIRouter(include_in_schema=False)


@router.get("/health/live")
def live() -> Response:
    """Say that the process answers."""
    return JSONResponse({"status": "live"})


@router.get("/health/ready")
def ready(node: Node) -> Response:
    """Say whether requests can be served: the database is there, and its tables are ours."""
    if not is_current(node.engine):
        return JSONResponse({"status": "the tables are of another version"}, 503)
    return JSONResponse({"status": "ready"})
