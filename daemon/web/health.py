"""Whether the web lives and can work, and whether the other programs do."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import JSONResponse, Response

from daemon.web.node import Node, WebNode
from daemon.web.programs import programs
from db.session import is_current
from lungnode.pulse import PROGRAMS

router = APIRouter(include_in_schema=False)
Role = Annotated[str, Path(pattern=f"^({'|'.join(PROGRAMS)})$")]


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


@router.get("/health/live/{role}")
def role_live(role: Role, node: Node) -> Response:
    """Say whether a program lives, on any host."""
    return _told(node, role, ready=False)


@router.get("/health/ready/{role}")
def role_ready(role: Role, node: Node) -> Response:
    """Say whether a program can work, on any host."""
    return _told(node, role, ready=True)


def _told(node: WebNode, role: str, *, ready: bool) -> Response:
    known = [each for each in programs(node.settings.data) if each.name == role]
    good = [each for each in known if (each.ready if ready else each.alive)]
    hosts = {each.host: each.wrong or each.waits or "ready" for each in known}
    status = ("ready" if ready else "live") if good else "not running" if not known else "not able"
    return JSONResponse({"status": status, "hosts": hosts}, 200 if good else 503)
