"""A web application for tests: a node without other programs, accounts, and browsers that are signed in."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from daemon.web.app import make_app
from daemon.web.node import WebNode
from daemon.web.passwords import hash_password
from db.accounts import Grant, add_account, add_token, find_account
from db.models import Role
from db.session import transaction
from lungnode.settings import Settings
from tests.databases import new_sqlite
from tests.nodes import wait_for
from tests.spooling import Clock

PASSWORD: Final = "correct horse battery"  # noqa: S105 - of accounts that live as long as a test
HERE: Final = "http://testserver"


@dataclass
class Web:
    """An application with its database, a clock that tests set, and an account of each role."""

    engine: Engine
    data: Path
    settings: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        """Make the application and the accounts."""
        self.node = WebNode(Settings(data=self.data, **self.settings), self.engine, self.clock)
        self.app = make_app(self.node)
        with transaction(self.engine) as session:
            for role in Role:
                add_account(session, role, role, kept_password(), self.clock())

    def browser(self, role: str = "", address: str = "192.0.2.1", base: str = HERE) -> "Browser":
        """Return a browser; with a role, signed in."""
        client = TestClient(self.app, base, client=(address, 50000), follow_redirects=False)
        browser = Browser(client)
        if role:
            browser.sign_in(role)
        return browser

    def token(self, account: str, *scopes: str, days: int = 1) -> str:
        """Make an API token."""
        with transaction(self.engine) as session:
            grant = Grant("test", scopes, self.clock() + timedelta(days=days))
            return add_token(session, find_account(session, account), grant, self.clock())[0]

    def program(self, account: str, *scopes: str, days: int = 1) -> TestClient:
        """Return a client that shows a token."""
        headers = {"Authorization": f"Bearer {self.token(account, *scopes, days=days)}"}
        return TestClient(self.app, HERE, headers=headers, follow_redirects=False)


@contextmanager
def new_web(folder: Path, **settings: Any) -> Iterator[Web]:
    """Make an application with an empty database in a folder."""
    engine = new_sqlite(f"sqlite:///{folder / 'lungnode.sqlite3'}")
    yield Web(engine, folder, settings)
    engine.dispose()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port while the block runs; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started, what="the web")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Browser:
    """A browser: it keeps cookies, and sends what a page would send."""

    client: TestClient

    def sign_in(self, name: str, password: str = PASSWORD, target: str = "/") -> Any:
        """Fill the form."""
        form = {"name": name, "password": password, "next": target}
        return self.client.post("/sign-in", data=form)

    def get(self, path: str, **options: Any) -> Any:
        """Open a page."""
        return self.client.get(path, **options)

    def send(self, method: str, path: str, **options: Any) -> Any:
        """Send what a script of a page would."""
        return self.client.request(method, path, headers={"X-CSRF-Token": self.csrf_token()}, **options)

    def csrf_token(self) -> str:
        """Read the token of the page."""
        found = re.search(r'name="csrf-token" content="([^"]+)"', self.client.get("/").text)
        return found.group(1) if found else ""


@cache
def kept_password() -> str:
    """Hash the password once: that is slow on purpose."""
    return hash_password(PASSWORD)


Action = Callable[[Browser], Any]
