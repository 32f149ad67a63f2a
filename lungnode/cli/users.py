"""Commands: users add, list, role, disable, enable, password, token, revoke."""

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lungnode.cli import settings_of
from lungnode.cli.study_views import wide_console

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.models import Account

users = typer.Typer(help="Who may sign in to the web.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")]
RoleOption = Annotated[str, typer.Option("--role", help="viewer, reader or admin.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, do not ask.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(users, name="users")


@users.command()
def add(
    context: typer.Context,
    name: Name,
    role: RoleOption = "viewer",
    password_stdin: FromStdin = False,
    no_password: Annotated[bool, typer.Option("--no-password", help="For tokens or OIDC alone.")] = False,
) -> None:
    """Add an account; the first one of a node is an admin."""
    from daemon.web.passwords import hash_password  # noqa: PLC0415 - when called
    from db.accounts import add_account  # noqa: PLC0415
    from db.session import transaction  # noqa: PLC0415

    wanted = _role(role)
    kept = "" if no_password else hash_password(_ask(from_stdin=password_stdin))
    with transaction(_database(context)) as session:
        account = add_account(session, name, wanted, kept, _now())
        _note(session, "account added", account, role=wanted)
    typer.echo(f"Account {account.name} is a {account.role}.")


@users.command("list")
def list_(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the accounts."""
    from db.accounts import list_accounts  # noqa: PLC0415 - when called
    from db.session import reading  # noqa: PLC0415

    with reading(_database(context)) as session:
        records = [_record(account) for account in list_accounts(session)]
    if as_json:
        typer.echo(json.dumps({"users": records}, indent=2))
        return
    from rich.table import Table  # noqa: PLC0415 - when called

    table = Table("name", "role", "password", "OIDC", "state", box=None)
    for record in records:
        yes = [("yes" if record[key] else "no") for key in ("password", "oidc")]
        table.add_row(record["name"], record["role"], *yes, "disabled" if record["disabled_at"] else "")
    wide_console().print(table)


@users.command()
def role(context: typer.Context, name: Name, wanted: Annotated[str, typer.Argument(metavar="ROLE")]) -> None:
    """Give an account another role."""
    from db.accounts import find_account, set_role  # noqa: PLC0415 - when called
    from db.session import transaction  # noqa: PLC0415

    known = _role(wanted)
    with transaction(_database(context)) as session:
        account = find_account(session, name)
        set_role(session, account, known)
        _note(session, "account's role changed", account, role=known)
    typer.echo(f"Account {account.name} is a {account.role}.")


@users.command()
def disable(context: typer.Context, name: Name) -> None:
    """Let an account do nothing any more, from now on."""
    from db.accounts import disable as disable_account  # noqa: PLC0415 - when called
    from db.accounts import find_account  # noqa: PLC0415
    from db.session import transaction  # noqa: PLC0415

    with transaction(_database(context)) as session:
        account = find_account(session, name)
        disable_account(session, account, _now())
        _note(session, "account disabled", account)
    typer.echo(f"Account {account.name} is disabled.")


@users.command()
def enable(context: typer.Context, name: Name) -> None:
    """Let a disabled account sign in again."""
    from db.accounts import enable as enable_account  # noqa: PLC0415 - when called
    from db.accounts import find_account  # noqa: PLC0415
    from db.session import transaction  # noqa: PLC0415

    with transaction(_database(context)) as session:
        account = find_account(session, name)
        enable_account(account)
        _note(session, "account enabled", account)
    typer.echo(f"Account {account.name} may sign in.")


@users.command()
def password(context: typer.Context, name: Name, password_stdin: FromStdin = False) -> None:
    """Give an account another password; whoever is signed in with the old one is signed out."""
    from daemon.web.passwords import hash_password  # noqa: PLC0415 - when called
    from db.accounts import find_account, set_password  # noqa: PLC0415
    from db.session import transaction  # noqa: PLC0415

    kept = hash_password(_ask(from_stdin=password_stdin))
    with transaction(_database(context)) as session:
        account = find_account(session, name)
        set_password(session, account, kept)
        _note(session, "password changed", account)
    typer.echo(f"Account {account.name} has another password.")


@users.command()
def token(
    context: typer.Context,
    name: Name,
    scope: Annotated[list[str], typer.Option(help="What it may be used for; again for more.")],
    days: Annotated[int, typer.Option(min=1, help="Days until it expires.")] = 90,
    label: Annotated[str, typer.Option(help="What uses it.")] = "",
) -> None:
    """Make an API token for an account; it is printed once, alone on standard output."""
    from daemon.web.permissions import Permission  # noqa: PLC0415 - when called
    from db.accounts import Grant, add_token, find_account  # noqa: PLC0415
    from db.session import transaction  # noqa: PLC0415

    known = [str(each) for each in Permission]
    if unknown := set(scope) - set(known):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the scopes are {', '.join(known)}.")
    longest, now = settings_of(context).web.token_days, _now()
    if days > longest:
        raise typer.BadParameter(f"web.token_days allows {longest} days at most.")
    with transaction(_database(context)) as session:
        account = find_account(session, name)
        grant = Grant(label, scope, now + timedelta(days=days))
        secret, row = add_token(session, account, grant, now)
        _note(session, "token made", account, token=row.id, scopes=row.scopes)
    typer.echo(secret)
    typer.echo(f"Token {row.id} of {account.name} expires in {days} days; it is not shown again.", err=True)


@users.command()
def revoke(
    context: typer.Context, number: Annotated[int, typer.Argument(metavar="TOKEN", help="Its number.")]
) -> None:
    """Let a token hold no more."""
    from db.accounts import revoke_token  # noqa: PLC0415 - when called
    from db.models import Account  # noqa: PLC0415
    from db.session import transaction  # noqa: PLC0415

    with transaction(_database(context)) as session:
        row = revoke_token(session, number, _now())
        _note(session, "token revoked", session.get_one(Account, row.account_id), token=row.id)
    typer.echo(f"Token {number} is revoked.")


def _database(context: typer.Context) -> "Engine":
    from db.session import open_engine, upgrade  # noqa: PLC0415 - when called

    engine = open_engine(settings_of(context).database)
    upgrade(engine)  # makes it: the first account may come before the first start
    return engine


def _note(session: Any, action: str, account: "Account", **details: Any) -> None:
    from db import audit  # noqa: PLC0415 - when called

    audit.record(session, action, account.name, _now(), **details)


def _role(wanted: str) -> Any:
    from db.models import Role  # noqa: PLC0415 - when called

    known = [str(each) for each in Role]
    if wanted not in known:
        raise typer.BadParameter(f"{wanted}: the roles are {', '.join(known)}.")
    return Role(wanted)


def _ask(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _record(account: "Account") -> dict[str, Any]:
    return {
        "name": account.name,
        "role": account.role,
        "password": bool(account.password),
        "oidc": account.subject is not None,
        "created_at": account.created_at.isoformat(),
        "disabled_at": account.disabled_at.isoformat() if account.disabled_at else None,
    }


def _now() -> datetime:
    return datetime.now(UTC)
