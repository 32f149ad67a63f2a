"""Pages: Jinja templates with every value escaped, and static files whose names change with their content."""

from collections.abc import Callable
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
    known = {"caller": caller, "path": request.url.path, "version": __version__}
    page = _environment().get_template(template).render(known | (values or {}))
    return HTMLResponse(page, status, headers)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("daemon.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["static"] = static_name
    return environment


def add_filter(name: str, function: Callable[..., Any]) -> None:
    """Let templates use a function as a filter."""
    _environment().filters[name] = function


def static_name(name: str) -> str:
    """Return the address of a static file; another content, another address."""
    return f"/static/{_public_names()[name]}"


@cache
def _public_names() -> dict[str, str]:
    return {name: public for public, (name, _) in _static_files().items()}


@cache
def _static_files() -> dict[str, tuple[str, Path]]:
    """Return name and path of each static file by its public name."""
    folder = Path(str(files("daemon.web") / "static"))
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _TYPES:
            name = path.relative_to(folder).as_posix()
            digest = sha256(path.read_bytes()).hexdigest()[:12]
            found[f"{name.removesuffix(path.suffix)}.{digest}{path.suffix}"] = (name, path)
    return found


@router.get("/static/{name:path}", name="static")
def static(name: str) -> FileResponse:
    """Return a static file; only what is in the table is ever looked for."""
    found = _static_files().get(name)
    if found is None:
        raise HTTPException(404)
    _, path = found
    return FileResponse(path, headers={"Cache-Control": _FOR_EVER}, media_type=_TYPES[path.suffix])
