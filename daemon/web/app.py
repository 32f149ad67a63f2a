"""The web application, made of its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event, Thread
from typing import Final

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from daemon.web import health, measuring, rendering, sign_in
from daemon.web.alerts.watch import watch_until
from daemon.web.api import API
from daemon.web.api.common import BODY
from daemon.web.dicomweb import DICOMWEB
from daemon.web.guard import Guard
from daemon.web.headers import SecurityHeaders
from daemon.web.node import WebNode
from daemon.web.oidc import routes as oidc
from daemon.web.pages import PAGES
from daemon.web.problems import add_handlers
from daemon.web.sweeping import sweep_until
from lungnode import __version__

# Requests served at once. Each has at most one connection to the database, and SQLAlchemy's pool has 15.
THREADS: Final = 12
ROUTERS: Final = (
    rendering.router,
    health.router,
    measuring.router,
    sign_in.router,
    oidc.router,
    *API,
    *DICOMWEB,
    *PAGES,
)


def make_app(node: WebNode) -> FastAPI:
    """Return the application; nothing is connected yet."""
    app = FastAPI(
        title="Lungnode",
        version=__version__,
        description="A DICOM AI node for chest CT. For research use only, not for diagnostic use.",
        openapi_url=None,  # its pages for people load scripts from other hosts
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        max_body_size=BODY,
    )
    app.state.node = node
    app.state.measures = measuring.Measures(node)
    app.add_middleware(Guard)
    if node.settings.web.cors_origins:
        # Without cookies: a viewer of another site shows a token.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=node.settings.web.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(SecurityHeaders)
    add_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = THREADS
    stopping = Event()
    node, works = app.state.node, (sweep_until, watch_until)
    threads = [Thread(target=work, args=(node, stopping), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    yield
    stopping.set()
    for thread in threads:
        thread.join()
    node.engine.dispose()
