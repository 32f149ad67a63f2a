"""Pages: who may sign in, for administrators, and one's own account, for everybody."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Administrator, Viewer
from daemon.web.node import Node
from daemon.web.passwords import LONGEST, SHORTEST
from daemon.web.permissions import Permission, permissions_of
from daemon.web.rendering import render
from db import accounts
from db.models import Account, ApiToken, Role
from db.session import reading
from lungnode.errors import UnusableError

router = APIRouter(include_in_schema=False)
TOLD = {
    Role.VIEWER: "looks at studies, results and models",
    Role.READER: "also says what studies show and uploads",
    Role.ADMIN: "also runs the node: retries, models, users, audit",
}
SCOPES = {
    Permission.VIEW: "read studies, results, models",
    Permission.JUDGE: "label studies, give feedback",
    Permission.UPLOAD: "have files classified",
    Permission.STORE: "add studies by STOW-RS",
    Permission.OPERATE: "retry, analyse again, promote",
    Permission.ADMINISTER: "accounts, tokens, audit",
    Permission.METRICS: "numbers for Prometheus",
}
_DAYS = 90


@router.get("/users", name="users")
def show(request: Request, node: Node, caller: Administrator) -> Response:  # noqa: ARG001 - who may see it
    """Show all accounts."""
    with reading(node.engine) as session:
        rows = accounts.list_accounts(session)
        tokens = [row.account_id for row in accounts.list_tokens(session) if _state(row, node) == "valid"]
    values = {
        "accounts": [(row, tokens.count(row.id)) for row in rows],
        "roles": TOLD,
        "shortest": SHORTEST,
        "longest": LONGEST,
    }
    return render(request, "users.html", values)


@router.get("/users/{name}", name="user")
def show_one(request: Request, name: str, node: Node, caller: Administrator) -> Response:  # noqa: ARG001
    """Show one account and its tokens."""
    with reading(node.engine) as session:
        account = _account(session, name)
        tokens = [(row, _state(row, node)) for row in accounts.list_tokens(session, account)]
    granted = permissions_of(account.role)
    longest = node.settings.web.token_days
    values: dict[str, Any] = {
        "account": account,
        "tokens": tokens,
        "roles": TOLD,
        "scopes": {scope: words for scope, words in SCOPES.items() if scope in granted},
        "days": min(_DAYS, longest),
        "most_days": longest,
        "shortest": SHORTEST,
        "longest": LONGEST,
    }
    return render(request, "user.html", values)


@router.get("/account", name="account")
def show_own(request: Request, node: Node, caller: Viewer) -> Response:
    """Show one's own account."""
    with reading(node.engine) as session:
        account = session.get_one(Account, caller.account_id)
        tokens = [(row, _state(row, node)) for row in accounts.list_tokens(session, account)]
    values = {
        "account": account,
        "tokens": tokens,
        "told": TOLD[Role(account.role)],
        "shortest": SHORTEST,
        "longest": LONGEST,
    }
    return render(request, "account.html", values)


def _account(session: Session, name: str) -> Account:
    try:
        return accounts.find_account(session, name)
    except UnusableError as error:
        raise HTTPException(404, str(error)) from error


def _state(token: ApiToken, node: Node) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "valid" if token.expires_at > node.clock() else "expired"
