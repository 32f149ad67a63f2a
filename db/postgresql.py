"""Connections to PostgreSQL, of which both ends notice when the other is gone.

A host whose cable is pulled says no farewell. Without the limits below its transaction would keep the clerks'
lock, and so stop all other hosts, for the two hours that TCP is patient by default.
"""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import URL, Engine, ExceptionContext, create_engine, event

# Half a minute of silence: longer than a switch takes to find another way, shorter than any lease.
# Source: libpq 34.1.2, Parameter Key Words. What the URL says wins.
_PATIENCE: Final = {
    "connect_timeout": "10",  # seconds
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",  # milliseconds: for what was sent and is not acknowledged
}
# The same for the server's end. Source: PostgreSQL 20.3.2, TCP Settings; on a Unix socket they do nothing.
_OF_SERVER: Final = {
    "tcp_keepalives_idle": "keepalives_idle",
    "tcp_keepalives_interval": "keepalives_interval",
    "tcp_keepalives_count": "keepalives_count",
    "tcp_user_timeout": "tcp_user_timeout",
}


def open_postgresql(url: URL) -> Engine:
    """Make an engine; nothing is connected yet."""
    patience = {name: str(url.query.get(name, value)) for name, value in _PATIENCE.items()}
    engine = create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=patience)
    event.listen(engine, "handle_error", _leave_out_the_row)
    event.listen(engine, "connect", _teach(patience))
    return engine


def _teach(patience: dict[str, str]) -> Callable[[Any, object], None]:
    """Return what gives the server's end of a new connection the patience of ours."""
    chosen = [f"set_config('{name}', '{int(patience[ours])}', false)" for name, ours in _OF_SERVER.items()]
    statement = f"SELECT {', '.join(chosen)}"

    def teach(connection: Any, _record: object) -> None:
        connection.execute(statement)
        connection.commit()

    return teach


def _leave_out_the_row(context: ExceptionContext) -> None:
    """Keep what PostgreSQL adds to its message (DETAIL: Failing row contains ...) out of the error."""
    original, wrapped = context.original_exception, context.sqlalchemy_exception
    diagnosis = getattr(original, "diag", None)
    if wrapped is not None and getattr(diagnosis, "message_detail", None):
        message = str(diagnosis.message_primary) if diagnosis else ""
        original.args = (message,)
        wrapped.args = (f"({type(original).__name__}) {message}",)
