"""What all routes of the REST interface do: ETags, and writes that may be repeated with the same key.

A key is kept as its digest, and keys the digest of its request, which may hold a password: who reads the row
can guess at it only as well as at the key.

Source: RFC 9110 8.8.3 and 13.1.2 (ETag, If-None-Match); Idempotency-Key as the IETF's draft has it.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

from fastapi.routing import APIRoute
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Check, check_of
from daemon.web.node import WebNode, node_of
from daemon.web.problems import answer, problem_of
from db.models import IdempotentWrite
from db.session import reading, transaction

KEY_HEADER: Final = "Idempotency-Key"
KEPT: Final = timedelta(days=1)
_LONGEST: Final = 255
_SERVER_ERROR: Final = 500
_FORM: Final = "multipart/form-data"
# The header of an answer that holds a secret: the answer is told once and kept nowhere.
NO_STORE: Final = {"Cache-Control": "no-store"}
_TOLD_ONCE: Final = "It was done; the answer held a secret, which is told once."
Handler = Callable[[Request], Awaitable[Response]]


class ApiRoute(APIRoute):
    """A route with both."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return what serves a request."""
        handle, check = super().get_route_handler(), check_of(self.dependant)

        async def serve(request: Request) -> Response:
            if request.method == "GET":
                return _tagged(request, await handle(request))
            key = request.headers.get(KEY_HEADER)
            if key is None or check is None:
                return await handle(request)
            return await _once(await _written(request, key, check), request, handle)

        return serve


def _tagged(request: Request, response: Response) -> Response:
    """Add an ETag to a document; leave it out where the caller has it already."""
    if not response.headers.get("Content-Type", "").startswith("application/json"):
        return response
    tag = f'"{sha256(response.body).hexdigest()[:32]}"'
    response.headers["ETag"] = tag
    if not is_known(request, tag):
        return response
    return Response(status_code=304, headers={"ETag": tag})


def is_known(request: Request, tag: str) -> bool:
    """Tell whether the caller has what a tag names."""
    known = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
    return tag in known or "*" in known


@dataclass(frozen=True)
class _Write:
    """A write that was sent with a key."""

    node: WebNode
    account_id: int
    key: str  # digest
    request: str  # digest

    @property
    def identity(self) -> tuple[int, str]:
        return self.account_id, self.key


async def _written(request: Request, key: str, check: Check) -> _Write:
    """Return what is written; nothing is read, nor answered again, for those who may not write it.

    Raises:
        HTTPException: The key is none, or the caller may not.
    """
    if not 0 < len(key) <= _LONGEST or not key.isprintable():
        raise HTTPException(400, f"{KEY_HEADER} has 1 to {_LONGEST} printable characters.")
    caller = await check(request)
    # Files are not looked at: they may be gigabytes, and a form that comes again has another boundary.
    is_form = request.headers.get("Content-Type", "").startswith(_FORM)
    body = b"" if is_form else await request.body()
    told = b"\0".join((request.method.encode(), str(request.url).encode(), body))
    digest = hmac.new(key.encode(), told, sha256).hexdigest()
    return _Write(node_of(request), caller.account_id, sha256(key.encode()).hexdigest(), digest)


async def _once(write: _Write, request: Request, handle: Handler) -> Response:
    """Answer as the first time when a write comes again.

    Raises:
        HTTPException: Another write had this key, or the first one is not done.
    """
    before = await run_in_threadpool(_begin, write)
    if before is not None:
        return before
    try:
        response = await handle(request)
    except BaseException:
        await run_in_threadpool(_forget, write)
        raise
    if response.status_code >= _SERVER_ERROR:
        await run_in_threadpool(_forget, write)
    else:
        told_once = response.headers.get("Cache-Control") == NO_STORE["Cache-Control"]
        kept = answer(request, problem_of(409, _TOLD_ONCE)) if told_once else response
        await run_in_threadpool(_keep, write, kept)
    return response


def _begin(write: _Write) -> Response | None:
    """Return what was answered before; None when this is the first time."""
    now = write.node.clock()
    try:
        with transaction(write.node.engine) as session:
            session.execute(delete(IdempotentWrite).where(IdempotentWrite.created_at <= now - KEPT))
            session.add(
                IdempotentWrite(
                    account_id=write.account_id, key=write.key, request=write.request, created_at=now
                )
            )
    except IntegrityError:
        return _answered(write)
    return None


def _answered(write: _Write) -> Response:
    with reading(write.node.engine) as session:
        row = session.get(IdempotentWrite, write.identity)
    if row is None or row.status is None:
        raise HTTPException(409, "The request with this key is at work; ask again in a moment.")
    if row.request != write.request:
        raise HTTPException(422, f"Another request was sent with this {KEY_HEADER}.")
    headers = {"Idempotent-Replayed": "true"} | ({"Location": row.location} if row.location else {})
    return Response(row.body, row.status, headers, row.media_type or None)


def _forget(write: _Write) -> None:
    with transaction(write.node.engine) as session:
        row = session.get(IdempotentWrite, write.identity)
        if row is not None:
            session.delete(row)


def _keep(write: _Write, response: Response) -> None:
    with transaction(write.node.engine) as session:
        row = session.get(IdempotentWrite, write.identity)
        if row is not None:
            row.status, row.body = response.status_code, bytes(response.body)
            row.media_type = response.headers.get("Content-Type", "")
            row.location = response.headers.get("Location", "")
