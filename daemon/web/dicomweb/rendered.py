"""WADO-RS, rendered: pictures for browsers. Source: PS3.18 10.4.1.1.3 and 8.3.5."""

from typing import Annotated

from fastapi import Path, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Caller, Viewer
from daemon.web.dicomweb.accept import choose
from daemon.web.dicomweb.common import InstanceUid, SeriesUid, StudyUid, file_of, new_router, retrieved
from daemon.web.dicomweb.images import Window, encode_picture, frame_count, open_object, picture
from daemon.web.node import Node, WebNode
from db.objects import Scope, StoredObject
from lungnode.errors import UnusableError

router = new_router()
_SERIES = "/studies/{study}/series/{series}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_TYPES = ("image/jpeg", "image/png")
_THUMBNAIL = (128, 128)
_MOST = 4096  # pixels of a side
Frame = Annotated[int, Path(ge=1, le=100_000)]
WindowText = Annotated[
    str, Query(alias="window", pattern=r"^-?[0-9.]{1,12},[0-9.]{1,12}(,(linear|linear-exact|sigmoid))?$")
]
ViewportText = Annotated[str, Query(alias="viewport", pattern=r"^[0-9]{1,5},[0-9]{1,5}$")]
Quality = Annotated[int, Query(ge=1, le=100)]


@router.get(f"{_INSTANCE}/rendered")
def rendered(  # noqa: PLR0913, PLR0917 - the parts of the address
    request: Request,
    study: StudyUid,
    series: SeriesUid,
    instance: InstanceUid,
    node: Node,
    caller: Viewer,
    window: WindowText | None = None,
    viewport: ViewportText | None = None,
    quality: Quality = 90,
) -> Response:
    """Return the first frame of an instance as a picture."""
    scope = Scope(study, series, instance)
    return _picture(request, node, caller, scope, (1, window, viewport, quality))


@router.get(f"{_INSTANCE}/frames/{{frame}}/rendered")
def rendered_frame(  # noqa: PLR0913, PLR0917 - the parts of the address
    request: Request,
    study: StudyUid,
    series: SeriesUid,
    instance: InstanceUid,
    frame: Frame,
    node: Node,
    caller: Viewer,
    window: WindowText | None = None,
    viewport: ViewportText | None = None,
    quality: Quality = 90,
) -> Response:
    """Return a frame as a picture."""
    scope = Scope(study, series, instance)
    return _picture(request, node, caller, scope, (frame, window, viewport, quality))


@router.get("/studies/{study}/thumbnail")
def study_thumbnail(request: Request, study: StudyUid, node: Node, caller: Viewer) -> Response:
    """Return a small picture of a study."""
    return _thumbnail(request, node, caller, Scope(study))


@router.get(f"{_SERIES}/thumbnail")
def series_thumbnail(
    request: Request, study: StudyUid, series: SeriesUid, node: Node, caller: Viewer
) -> Response:
    """Return a small picture of a series."""
    return _thumbnail(request, node, caller, Scope(study, series))


@router.get(f"{_INSTANCE}/thumbnail")
def thumbnail(
    request: Request, study: StudyUid, series: SeriesUid, instance: InstanceUid, node: Node, caller: Viewer
) -> Response:
    """Return a small picture of an instance."""
    return _thumbnail(request, node, caller, Scope(study, series, instance))


def _thumbnail(request: Request, node: WebNode, caller: Caller, scope: Scope) -> Response:
    found = retrieved(node, caller, scope)
    middle = found[len(found) // 2]
    images = [middle, *(each for each in found if each is not middle)]
    for held in images:
        try:
            return _drawn(request, node, held, (1, None, _THUMBNAIL, 80))
        except UnusableError:
            continue
    raise HTTPException(404, "Nothing of it can be shown.")


def _picture(
    request: Request,
    node: WebNode,
    caller: Caller,
    scope: Scope,
    how: tuple[int, str | None, str | None, int],
) -> Response:
    (held,) = retrieved(node, caller, scope)
    frame, window, viewport, quality = how
    wanted = _window(window) if window else None
    size = _size(viewport) if viewport else None
    try:
        return _drawn(request, node, held, (frame, wanted, size, quality))
    except UnusableError as error:
        raise HTTPException(406, f"The instance cannot be shown: {error}") from error


def _drawn(
    request: Request,
    node: WebNode,
    held: StoredObject,
    how: tuple[int, Window | None, tuple[int, int] | None, int],
) -> Response:
    frame, window, size, quality = how
    media_type = choose(request, _TYPES)
    ds = open_object(file_of(node, held))
    if not 1 <= frame <= frame_count(ds):
        raise UnusableError(f"it has {frame_count(ds)} frames.")
    data = encode_picture(picture(ds, frame, window), media_type, size, quality)
    # What is stored never changes: the browser may keep what it shows, for the person who is signed in.
    return Response(data, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})


def _window(text: str) -> Window:
    center, width, *rest = text.split(",")
    if rest and rest[0] != "linear":
        raise HTTPException(400, "The only function of a window is linear.")
    try:
        return Window(float(center), max(float(width), 1.0))
    except ValueError as error:
        raise HTTPException(400, "A window is center,width.") from error


def _size(text: str) -> tuple[int, int]:
    width, height = (int(number) for number in text.split(","))
    if not (1 <= width <= _MOST and 1 <= height <= _MOST):
        raise HTTPException(400, f"A viewport is 1 to {_MOST} pixels wide and high.")
    return width, height
