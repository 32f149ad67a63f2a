"""Signing in at the provider: there and back."""

import logging
import secrets
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query
from sqlalchemy import delete
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from daemon.web.access import address_of
from daemon.web.audited import note
from daemon.web.node import Node, WebNode
from daemon.web.oidc.people import account_of
from daemon.web.oidc.provider import Asked, Provider
from daemon.web.sign_in import admit, local_target, show_form
from db.accounts import digest_of
from db.models import OidcFlow
from db.session import transaction
from lungnode.errors import LungnodeError, UnusableError

_LOG = logging.getLogger(__name__)
router = APIRouter(include_in_schema=False)
_COOKIE: Final = "lungnode-oidc"  # ties what comes back to the browser that was sent away
_PATH: Final = "/oidc"
_LASTS: Final = timedelta(minutes=10)
Word = Annotated[str, Query(max_length=4096)]


@router.get(f"{_PATH}/start")
def start(request: Request, node: Node, next: Word = "/") -> Response:  # noqa: A002 - as in the address
    """Send the browser to the provider."""
    provider = _provider(request, node)
    state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
    asked = Asked(state, nonce[:43], verifier, _back(request))
    try:
        address = provider.address(asked)
    except LungnodeError as error:
        _LOG.warning("%s", error)
        return show_form(request, node, next, str(error), status=503)
    now = node.clock()
    with transaction(node.engine) as session:
        session.execute(delete(OidcFlow).where(OidcFlow.created_at <= now - _LASTS))
        session.add(
            OidcFlow(
                digest=digest_of(asked.state),
                nonce=asked.nonce,
                verifier=asked.verifier,
                target=local_target(next),
                created_at=now,
            )
        )
    response = RedirectResponse(address, status_code=303)
    response.set_cookie(
        _COOKIE,
        asked.state,
        max_age=int(_LASTS.total_seconds()),
        path=_PATH,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


@router.get(f"{_PATH}/callback")
def callback(request: Request, node: Node, state: Word = "", code: Word = "", error: Word = "") -> Response:
    """Take the browser back, and sign in whom the provider says it is."""
    provider = _provider(request, node)
    flow = _taken(request, node, state)
    if flow is None:
        return show_form(request, node, "/", "The sign-in took too long; begin it again.", status=403)
    if error or not code:
        return show_form(request, node, flow.target, "The provider did not let you in.", status=403)
    asked = Asked(state, flow.nonce, flow.verifier, _back(request))
    address, now = address_of(request), node.clock()
    try:
        claims = provider.claims(asked, code)
        with transaction(node.engine) as session:
            account = account_of(session, claims, provider.issuer, node.settings.web.oidc, now)
    except LungnodeError as refused:
        _LOG.warning("a sign-in by OIDC failed: %s", type(refused).__name__)
        with transaction(node.engine) as session:
            note(session, "", "sign-in failed", address, now, provider=provider.issuer)
        status = 403 if isinstance(refused, UnusableError) else 503
        return show_form(request, node, flow.target, str(refused), status=status)
    response = admit(request, node, account, flow.target)
    response.delete_cookie(_COOKIE, path=_PATH)
    return response


def _taken(request: Request, node: WebNode, state: str) -> OidcFlow | None:
    """Return the flow of a state, and use it up; None when it is not this browser's, or too old."""
    if not state or not secrets.compare_digest(request.cookies.get(_COOKIE, "").encode(), state.encode()):
        return None
    with transaction(node.engine) as session:
        flow = session.get(OidcFlow, digest_of(state))
        if flow is not None:
            session.delete(flow)
    return flow if flow is not None and node.clock() - flow.created_at < _LASTS else None


def _provider(request: Request, node: WebNode) -> Provider:
    if not node.settings.web.oidc.issuer:
        raise HTTPException(404, "Nobody signs in by OIDC here.")
    state = request.app.state
    if not hasattr(state, "provider"):
        state.provider = Provider(node.settings.web.oidc)
    provider: Provider = state.provider
    return provider


def _back(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{_PATH}/callback"
