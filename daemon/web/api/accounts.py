"""REST: accounts and tokens, for administrators."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.responses import Response

from daemon.web.access import Administrator
from daemon.web.api.common import Document, Given, Number, router
from daemon.web.api.routing import NO_STORE
from daemon.web.audited import writing
from daemon.web.node import Node
from daemon.web.passwords import LONGEST, SHORTEST, hash_password
from daemon.web.permissions import Permission, permissions_of
from db import accounts, audit
from db.models import Account, ApiToken, Role
from db.session import reading
from lungnode.errors import UnusableError

api = router("administration")
Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._@-]*$", max_length=64)]


class AccountDocument(Document):
    """Who may sign in."""

    name: str
    role: Role
    has_password: bool
    uses_oidc: bool
    created_at: datetime
    disabled_at: datetime | None

    @classmethod
    def of(cls, row: Account) -> "AccountDocument":
        """Return an account without its secrets."""
        own = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        return cls(**own, has_password=bool(row.password), uses_oidc=row.subject is not None)


class AccountList(BaseModel):
    """All accounts."""

    accounts: list[AccountDocument]


class NewAccount(Given):
    """An account to add."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._@-]*$", max_length=64)
    role: Role = Role.VIEWER
    password: str = Field("", max_length=LONGEST, description=f"{SHORTEST} characters or more; empty: none")


class AccountChange(Given):
    """What changes about an account; what is left out stays."""

    role: Role | None = None
    disabled: bool | None = None
    password: str | None = Field(None, max_length=LONGEST)


class TokenDocument(Document):
    """A token, without its secret."""

    id: int
    name: str
    account: str
    scopes: list[Permission]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: ApiToken) -> "TokenDocument":
        """Return a token whose account is loaded."""
        own = {
            name: getattr(row, name) for name in cls.model_fields if name != "account" and hasattr(row, name)
        }
        return cls(**own | {"account": row.account.name})


class TokenList(BaseModel):
    """All tokens."""

    tokens: list[TokenDocument]


class NewToken(Given):
    """A token to make."""

    name: str = Field(max_length=64, pattern=r"^[^\x00-\x1f]*$", description="what uses it")
    scopes: list[Permission] = Field(min_length=1)
    days: int = Field(90, ge=1, le=3650)


class TokenSecret(TokenDocument):
    """A token that was made; the secret is not shown again."""

    secret: str


@api.get("/accounts")
def list_accounts(node: Node, _caller: Administrator) -> AccountList:
    """List who may sign in."""
    with reading(node.engine) as session:
        return AccountList(accounts=[AccountDocument.of(row) for row in accounts.list_accounts(session)])


@api.post("/accounts", status_code=201)
def add(new: NewAccount, node: Node, caller: Administrator) -> AccountDocument:
    """Add an account."""
    kept, now = hash_password(new.password) if new.password else "", node.clock()
    with writing(node, caller) as session:
        row = accounts.add_account(session, new.name, new.role, kept, now)
        audit.record(session, "account added", row.name, now, role=new.role)
        return AccountDocument.of(row)


@api.patch("/accounts/{name}")
def change(name: Name, new: AccountChange, node: Node, caller: Administrator) -> AccountDocument:
    """Change role or password, disable or enable; a new password ends all sessions."""
    kept, now = hash_password(new.password) if new.password else None, node.clock()
    with writing(node, caller) as session:
        row = _account(session, name)
        if new.role is not None and new.role != row.role:
            accounts.set_role(session, row, new.role)
            audit.record(session, "account's role changed", row.name, now, role=new.role)
        if new.disabled is not None and new.disabled != bool(row.disabled_at):
            (accounts.disable(session, row, now) if new.disabled else accounts.enable(row))
            audit.record(session, f"account {'disabled' if new.disabled else 'enabled'}", row.name, now)
        if kept is not None:
            accounts.set_password(session, row, kept)
            audit.record(session, "password changed", row.name, now)
        return AccountDocument.of(row)


@api.delete("/accounts/{name}/sessions", status_code=204)
def sign_out(name: Name, node: Node, caller: Administrator) -> None:
    """Sign an account out everywhere."""
    with writing(node, caller) as session:
        row = _account(session, name)
        accounts.sign_out_everywhere(session, row)
        audit.record(session, "account signed out", row.name, node.clock())


@api.get("/tokens")
def list_tokens(node: Node, _caller: Administrator) -> TokenList:
    """List all tokens."""
    with reading(node.engine) as session:
        return TokenList(tokens=[TokenDocument.of(row) for row in accounts.list_tokens(session)])


@api.post("/accounts/{name}/tokens", status_code=201)
def make_token(
    name: Name, new: NewToken, node: Node, caller: Administrator, response: Response
) -> TokenSecret:
    """Make a token for an account; its secret is in this answer and nowhere else."""
    response.headers.update(NO_STORE)
    now, longest = node.clock(), node.settings.web.token_days
    if new.days > longest:
        raise UnusableError(f"web.token_days allows {longest} days at most.")
    with writing(node, caller) as session:
        row = _account(session, name)
        unfit = set(new.scopes) - permissions_of(row.role)
        if unfit:
            raise UnusableError(f"A {row.role} has no permission {', '.join(sorted(unfit))}.")
        grant = accounts.Grant(new.name, new.scopes, now + timedelta(days=new.days))
        secret, token = accounts.add_token(session, row, grant, now)
        audit.record(session, "token made", row.name, now, token=token.id, scopes=token.scopes)
        return TokenSecret(**TokenDocument.of(token).model_dump(), secret=secret)


@api.delete("/tokens/{number}", status_code=204)
def revoke(number: Number, node: Node, caller: Administrator) -> None:
    """Let a token hold no more."""
    now = node.clock()
    with writing(node, caller) as session:
        if session.get(ApiToken, number) is None:
            raise HTTPException(404, f"There is no token {number}.")
        token = accounts.revoke_token(session, number, now)
        audit.record(session, "token revoked", token.account.name, now, token=number)


def _account(session: Session, name: str) -> Account:
    try:
        return accounts.find_account(session, name)
    except UnusableError as error:
        raise HTTPException(404, str(error)) from error
