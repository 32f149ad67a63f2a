"""Who asks, and whether they may: a session's cookie or a token, and the permission that a route names."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import compare_digest
from typing import Annotated, Final

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from daemon.web.node import WebNode, node_of
from daemon.web.permissions import Permission, permissions_of
from daemon.web.problems import MACHINES, NotSignedInError
from db import accounts
from db.session import reading, transaction

CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf_token"
# Of a page that renews itself: nobody need be looking, so it keeps no session alive.
POLL_HEADER: Final = "Lungnode-Poll"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Caller:
    """Who sent a request."""

    account_id: int
    name: str
    role: str
    permissions: frozenset[Permission]
    address: str
    session: str = ""  # its digest; empty for a token
    csrf_token: str = ""

    def may(self, permission: str) -> bool:
        """Tell whether the caller has a permission; for templates, which show what can be used."""
        return permission in self.permissions


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie; over TLS one that only our host can have set."""
    return "__Host-lungnode" if request.url.scheme == "https" else "lungnode"


def address_of(request: Request) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client else ""


def identify(request: Request) -> Caller | None:
    """Return who sends a request, if anybody whom we know."""
    node = node_of(request)
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _by_token(node, secret.strip(), address_of(request))
    cookie = request.cookies.get(cookie_name(request), "")
    is_poll = POLL_HEADER in request.headers
    return _by_session(node, cookie, address_of(request), is_poll=is_poll) if cookie else None


def _by_token(node: WebNode, secret: str, address: str) -> Caller | None:
    now = node.clock()
    with reading(node.engine) as session:
        token = accounts.find_token(session, secret, now)
    if token is None:
        return None
    if token.used_at is None or now - token.used_at > accounts.SEEN:
        with transaction(node.engine) as session:
            accounts.note_token(session, token.id, now)
    account = token.account
    granted = permissions_of(account.role) & {Permission(scope) for scope in token.scopes}
    return Caller(account.id, account.name, account.role, granted, address)


def _by_session(node: WebNode, secret: str, address: str, *, is_poll: bool) -> Caller | None:
    now = node.clock()
    with reading(node.engine) as session:
        row = accounts.find_session(session, secret, node.lifetime, now)
    if row is None:
        return None
    if now - row.seen_at > accounts.SEEN and not is_poll:
        with transaction(node.engine) as session:
            accounts.note_session(session, row.digest, now)
    account = row.account
    granted = permissions_of(account.role)
    return Caller(account.id, account.name, account.role, granted, address, row.digest, row.csrf_token)


def refuse_other_sites(request: Request) -> None:
    """Refuse a request that another site made a browser send.

    Raises:
        HTTPException: It did.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    here = f"{request.url.scheme}://{request.url.netloc}"
    if (site is not None and site not in ("same-origin", "none")) or origin not in (None, here):
        raise HTTPException(403, "The request comes from another site.")


async def _check_csrf(request: Request, caller: Caller) -> None:
    refuse_other_sites(request)
    shown = request.headers.get(CSRF_HEADER, "")
    is_page = not request.url.path.startswith(MACHINES)
    if is_page and not shown and request.headers.get("Content-Type", "").startswith(_FORM):
        shown = str((await request.form()).get(CSRF_FIELD, ""))
    if not compare_digest(shown.encode(), caller.csrf_token.encode()):
        raise HTTPException(403, "The page is too old; load it again and repeat what you did.")


Check = Callable[[Request], Awaitable[Caller]]


def requires(permission: Permission) -> Check:
    """Return what lets only those in who have a permission, and says who it is."""

    async def check(request: Request) -> Caller:
        caller = await run_in_threadpool(identify, request)
        if caller is None:
            raise NotSignedInError
        request.state.caller = caller
        if permission not in caller.permissions:
            raise HTTPException(403, f"{caller.name} may not do this: it takes the permission {permission}.")
        if caller.session and request.method not in _SAFE:
            await _check_csrf(request, caller)
        return caller

    check.permission = permission  # type: ignore[attr-defined] # so that it can be found
    return check


def check_of(dependant: Dependant) -> Check | None:
    """Return what lets into a route; None for one that is open to everybody."""
    if hasattr(dependant.call, "permission"):
        return dependant.call
    return next(filter(None, map(check_of, dependant.dependencies)), None)


Viewer = Annotated[Caller, Depends(requires(Permission.VIEW))]
Judge = Annotated[Caller, Depends(requires(Permission.JUDGE))]
Uploader = Annotated[Caller, Depends(requires(Permission.UPLOAD))]
Storer = Annotated[Caller, Depends(requires(Permission.STORE))]
Operator = Annotated[Caller, Depends(requires(Permission.OPERATE))]
Administrator = Annotated[Caller, Depends(requires(Permission.ADMINISTER))]
