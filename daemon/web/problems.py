"""What goes wrong, said to programs as problem+json and to people as a page.

Source: RFC 9457. The type is about:blank: status and title say the same as in HTTP.
"""

import logging
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from daemon.web.rendering import render
from lungnode.errors import UnavailableError, UnusableError

_LOG = logging.getLogger(__name__)
PROBLEM_TYPE: Final = "application/problem+json"
# Where programs ask; everywhere else people do.
MACHINES: Final = ("/api/", "/dicomweb/", "/metrics", "/health/")


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field("about:blank", description="what kind of problem it is")
    title: str = Field(description="the name of the status")
    status: int = Field(description="the HTTP status")
    detail: str = Field("", description="a sentence about this very request")
    errors: list[dict[str, Any]] = Field(default_factory=list, description="parameters that are wrong")


class NotSignedInError(HTTPException):
    """Nobody is signed in; a page leads to the sign-in."""

    def __init__(self, detail: str = "Sign in, or show a token.") -> None:
        super().__init__(401, detail, {"WWW-Authenticate": 'Bearer realm="lungnode"'})


def answer(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Tell a problem to whoever asked."""
    if request.url.path.startswith(MACHINES):
        body = problem.model_dump(exclude_defaults=True) | {"type": problem.type}
        return JSONResponse(body, problem.status, headers, PROBLEM_TYPE)
    return render(request, "error.html", {"problem": problem}, status=problem.status, headers=headers)


def problem_of(status: int, detail: str = "", errors: list[dict[str, Any]] | None = None) -> Problem:
    """Return the problem of a status."""
    title = HTTPStatus(status).phrase
    return Problem(
        type="about:blank", title=title, status=status, detail=detail or f"{title}.", errors=errors or []
    )


def add_handlers(app: FastAPI) -> None:
    """Let every error be told in these ways."""
    app.add_exception_handler(NotSignedInError, _not_signed_in)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UnusableError, _unusable)
    app.add_exception_handler(UnavailableError, _unavailable)


def unexpected(request: Request, error: Exception) -> Response:
    """Tell of an error that nobody foresaw; its words may quote a patient, so they are not logged."""
    route = getattr(request.scope.get("route"), "path", "no route")
    _LOG.error(
        "%s %s failed with %s",
        request.method,
        route,
        type(error).__name__,
        exc_info=_LOG.isEnabledFor(logging.DEBUG),
    )
    return answer(request, problem_of(500, "It failed unexpectedly; the log says where."))


def _not_signed_in(request: Request, error: Exception) -> Response:
    if request.url.path.startswith(MACHINES):
        return _told(request, error)
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    target = request.url_for("sign_in").include_query_params(next=asked if request.method == "GET" else "/")
    return RedirectResponse(f"{target.path}?{target.query}", status_code=303)


def _told(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return unexpected(request, error)
    return answer(request, problem_of(error.status_code, error.detail), dict(error.headers or {}))


def _invalid(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [{"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in found]
    return answer(request, problem_of(422, "A parameter is missing or wrong.", errors))


def _unusable(request: Request, error: Exception) -> Response:
    return answer(request, problem_of(409, str(error)))


def _unavailable(request: Request, error: Exception) -> Response:
    _LOG.warning("%s", error)
    detail = "The database or the archive is away; try again."
    return answer(request, problem_of(503, detail), {"Retry-After": "5"})
