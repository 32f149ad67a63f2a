"""Pages: Jinja templates with every value escaped, and static files whose addresses tell their content.

All static files share one version in their address, so that scripts can import each other by their names.
"""

from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from daemon.web import wording
from daemon.web.charts import swatch
from daemon.web.node import node_of
from lungnode import __version__

_FOR_EVER: Final = "public, max-age=31536000, immutable"
_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
router = APIRouter(include_in_schema=False)


def render(
    request: Request,
    template: str,
    values: dict[str, Any] | None = None,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """Fill a template; it also knows `caller` (None when nobody is signed in), `path` and `static`."""
    caller = getattr(request.state, "caller", None)
    qualification = node_of(request).settings.analysis.qualification
    known = {
        "caller": caller,
        "path": request.url.path,
        "version": __version__,
        "is_research": qualification == "RESEARCH",
    }
    page = _environment().get_template(template).render(known | (values or {}))
    return HTMLResponse(page, status, headers)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("daemon.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["static"] = static_name
    environment.filters |= wording.FILTERS | {"swatch": swatch}
    return environment


def static_name(name: str) -> str:
    """Return the address of a static file; when one of them changes, all addresses do."""
    version, paths = _static_files()
    if name not in paths:
        raise LookupError(f"There is no static file {name}.")
    return f"/static/{version}/{name}"


@cache
def _static_files() -> tuple[str, dict[str, Path]]:
    """Return the version of all static files, and the path of each by its name."""
    folder = Path(str(files("daemon.web") / "static"))
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES
    }
    digests = (f"{name} {sha256(path.read_bytes()).hexdigest()}" for name, path in paths.items())
    return sha256("\n".join(digests).encode()).hexdigest()[:12], paths


@router.get("/static/{version}/{name:path}", name="static")
def static(version: str, name: str) -> FileResponse:
    """Return a static file; only what is in the table is ever looked for."""
    current, paths = _static_files()
    if version != current or name not in paths:
        raise HTTPException(404)
    path = paths[name]
    return FileResponse(path, headers={"Cache-Control": _FOR_EVER}, media_type=_TYPES[path.suffix])
