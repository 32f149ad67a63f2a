"""The last line: an error that nobody foresaw becomes an answer, and its words stay out of the log."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.web.problems import unexpected


class Guard:
    """Answers where nobody else did; an answer that was cut off half-way stays cut off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began = False

        async def noticing(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, noticing)
        except Exception as error:
            if scope["type"] != "http":
                raise
            response = unexpected(Request(scope, receive), error)
            if not began:
                await response(scope, receive, send)
