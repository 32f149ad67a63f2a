"""What one web process works with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, cast

from fastapi import Depends
from sqlalchemy import Engine
from starlette.requests import HTTPConnection

from db.accounts import Lifetime
from lungnode.settings import Settings
from lungnode.store import Stores


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class WebNode(Stores):
    """Settings, database and clock."""

    settings: Settings
    engine: Engine
    clock: Callable[[], datetime] = utc_now
    looks: dict[tuple[str, ...], datetime] = field(default_factory=dict)  # see audited.note_look

    @property
    def lifetime(self) -> Lifetime:
        """How long a session lasts."""
        web = self.settings.web
        return Lifetime(timedelta(seconds=web.session_s), timedelta(seconds=web.session_idle_s))


def node_of(connection: HTTPConnection) -> WebNode:
    """Return what the process of a request works with."""
    return cast(WebNode, connection.app.state.node)


Node = Annotated[WebNode, Depends(node_of)]
