"""Signing in with a password, and out again."""

from typing import Annotated

from fastapi import APIRouter, Form
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from daemon.web.access import Viewer, address_of, cookie_name, refuse_other_sites
from daemon.web.audited import note
from daemon.web.node import Node, WebNode
from daemon.web.passwords import TOO_MANY, WAIT, hash_password, is_outdated, is_right
from daemon.web.rendering import render
from db import accounts
from db.models import Account
from db.session import reading, transaction
from db.sign_in import begin_attempt, forgive

router = APIRouter(include_in_schema=False)
_WRONG = "Name or password is wrong."


def local_target(text: str) -> str:
    """Return where to go after signing in; only our own pages."""
    is_ours = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if is_ours else "/"


@router.get("/sign-in", name="sign_in")
def show(request: Request, node: Node, next: str = "/") -> Response:  # noqa: A002 - as in the address
    """Show the form."""
    return show_form(request, node, next, "")


@router.post("/sign-in")
def sign_in(
    request: Request,
    node: Node,
    name: Annotated[str, Form(max_length=255, pattern=r"^[^\x00]*$")] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002 - as in the address
) -> Response:
    """Sign in, or show the form again with what is wrong."""
    refuse_other_sites(request)
    address, now = address_of(request), node.clock()
    with transaction(node.engine) as session:
        attempt = begin_attempt(session, name, address, now)
        if not attempt.allowed:
            note(session, "", "sign-in refused", address, now, reason="too many failures")
    if not attempt.allowed:
        return show_form(request, node, next, TOO_MANY, status=429, headers=WAIT)
    with reading(node.engine) as session:
        account = session.scalar(select(Account).where(Account.name == name.strip().lower()))
    right = is_right(account.password if account and not account.disabled_at else "", password)
    if not right or account is None:
        with transaction(node.engine) as session:
            # What was typed as a name may be a password, so only a name that we know is kept.
            note(session, account.name if account else "", "sign-in failed", address, now)
        return show_form(request, node, next, _WRONG, status=403)
    with transaction(node.engine) as session:
        forgive(session, attempt)
        _renew_hash(session.get_one(Account, account.id), password)
    return admit(request, node, account, next)


def admit(request: Request, node: WebNode, account: Account, target: str) -> Response:
    """Start a session and lead to the page that was asked for."""
    address, now = address_of(request), node.clock()
    with transaction(node.engine) as session:
        accounts.sweep_sessions(session, node.lifetime, now)
        secret, _ = accounts.start_session(session, account, address, now)
        note(session, account.name, "signed in", address, now)
    response = RedirectResponse(local_target(target), status_code=303)
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=int(node.settings.web.session_s),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


def _renew_hash(account: Account, password: str) -> None:
    if is_outdated(account.password):
        account.password = hash_password(password)


@router.post("/sign-out")
def sign_out(
    request: Request, node: Node, caller: Viewer, everywhere: Annotated[str, Form()] = ""
) -> Response:
    """End this session, or with `everywhere` all of the account."""
    now = node.clock()
    with transaction(node.engine) as session:
        if everywhere:
            accounts.sign_out_everywhere(session, session.get_one(Account, caller.account_id))
        else:
            accounts.sign_out(session, caller.session)
        action = "signed out everywhere" if everywhere else "signed out"
        note(session, caller.name, action, caller.address, now)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(cookie_name(request), secure=request.url.scheme == "https", httponly=True)
    return response


def show_form(
    request: Request,
    node: WebNode,
    target: str,
    problem: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """Show the form, with what is wrong."""
    oidc = node.settings.web.oidc
    values = {
        "target": local_target(target),
        "problem": problem,
        "provider": oidc.name if oidc.issuer else "",
    }
    return render(request, "sign_in.html", values, status=status, headers=headers)
