"""The OpenAPI document of the REST interface."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from daemon.web.api.common import PREFIX
from daemon.web.api.routing import KEY_HEADER
from daemon.web.problems import PROBLEM_TYPE, Problem
from lungnode import __version__

router = APIRouter(include_in_schema=False)
DESCRIPTION: Final = """\
What a node for chest CT received, found and sent. For research use only, not for diagnostic use.

Show an API token (`lungnode users token`) as `Authorization: Bearer …`. Lists come in pages: `next` of one is
`after` of the following. What goes wrong is told as `application/problem+json` (RFC 9457). A write with an
`Idempotency-Key` may be repeated for a day: it is done once and answered the same. Documents have an ETag.
"""
_WRITES: Final = ("post", "put", "patch", "delete")


@router.get(f"{PREFIX}/openapi.json")
def openapi(request: Request) -> Response:
    """Return the document."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = _document(request.app.routes)
    return JSONResponse(state.openapi)


def _document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    document = get_openapi(title="Lungnode", version=__version__, description=DESCRIPTION, routes=routes)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    for path in document["paths"].values():
        for method, operation in path.items():
            _complete(method, operation)
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    return document


def _complete(method: str, operation: dict[str, Any]) -> None:
    """Say what every operation may answer, and how a write may be repeated."""
    problem = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses = operation["responses"]
    responses.pop("422", None)
    for status in ("4XX", "5XX"):
        responses[status] = {"description": "What went wrong", "content": problem}
    if method in _WRITES:
        key = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
        told = "the same key, the same answer, for a day"
        operation.setdefault("parameters", []).append(
            {"name": KEY_HEADER, "in": "header", "required": False, "schema": key, "description": told}
        )
    else:
        responses["304"] = {"description": "The caller has it already"}
