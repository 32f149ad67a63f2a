"""Page: what a heatmap shows of one slice, as a picture to be laid over it."""

import io
from pathlib import Path as File
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Path
from PIL import Image
from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Viewer
from daemon.web.api.common import Number, Uid
from daemon.web.api.routing import is_known
from daemon.web.audited import note_look
from daemon.web.dicomweb.common import file_of
from daemon.web.node import Node, WebNode
from db.models import Analysis, Study
from db.objects import Scope, list_objects
from db.session import reading
from lungnode.errors import UnavailableError
from lungnode.loading import read_instance
from lungnode.shown_maps import MAPS_FILE, read_maps
from lungnode.store import StoredFile

router = APIRouter(include_in_schema=False)
_KEPT: Final = "private, max-age=3600"
Place = Annotated[int, Path(ge=1, le=100_000, description="among the analysed slices")]


@router.get("/studies/{study_instance_uid}/revisions/{number}/heatmaps/{place}.png", name="heatmap")
def show(
    request: Request, study_instance_uid: Uid, number: Number, place: Place, node: Node, caller: Viewer
) -> Response:
    """Return the colours of a slice's heatmap, transparent where nothing is painted."""
    path, source = _found(node, study_instance_uid, number, place)
    note_look(node, caller, "study viewed", study_instance_uid)
    tag = f'"{number}-{place}-{path.stat().st_mtime_ns:x}"'
    headers = {"Cache-Control": _KEPT, "ETag": tag}
    if is_known(request, tag):
        return Response(status_code=304, headers=headers)
    ds = read_instance(source, pixels=False)
    return Response(_painted(path, place, (ds.Rows, ds.Columns)), media_type="image/png", headers=headers)


def maps_file(node: WebNode, study_instance_uid: str, revision: int) -> File:
    """Return where the class maps of a revision are, if it has some."""
    (path,) = node.outputs.fetch([StoredFile(f"{study_instance_uid}/{revision}/{MAPS_FILE}")])
    return path


def has_maps(node: WebNode, study_instance_uid: str, revision: int) -> bool:
    """Tell whether a revision's heatmaps can be shown now."""
    try:
        return maps_file(node, study_instance_uid, revision).exists()
    except UnavailableError:
        return False  # the rest of the study can


def _found(node: WebNode, study_instance_uid: str, revision: int, place: int) -> tuple[File, File]:
    """Return the file of the class maps, and that of the slice.

    Raises:
        HTTPException: One of them is not there.
    """
    path = maps_file(node, study_instance_uid, revision)
    with reading(node.engine) as session:
        details = session.scalar(
            select(Analysis.details)
            .join(Study)
            .where(Study.study_instance_uid == study_instance_uid, Analysis.revision == revision)
        )
        slices = (details or {}).get("slices", [])
        if not path.is_file() or place > len(slices):
            raise HTTPException(404, "There is no such heatmap.")
        scope = Scope(study_instance_uid, sop_instance_uid=slices[place - 1]["sop_instance_uid"])
        held = list_objects(session, scope)
    if not held:
        raise HTTPException(404, "The slice's file is gone.")
    return path, file_of(node, held[0])


def _painted(path: File, place: int, shape: tuple[int, int]) -> bytes:
    # SciPy comes with it, and only who looks at heatmaps needs that.
    from lungnode.heatmap import FLOOR, FULL, colors, upsample  # noqa: PLC0415

    maps = read_maps(path)
    if maps is None or place > len(maps.levels):
        raise HTTPException(404, "There is no such heatmap.")
    level = (maps.levels[place - 1] / 255).astype(np.float32)
    activation = upsample(level, maps.boxes[place - 1], *shape)
    strength = ((activation - FLOOR) / (FULL - FLOOR)).clip(0, 1)
    painted = np.zeros((*shape, 4), np.uint8)
    seen = strength > 0
    painted[seen, :3] = colors(activation[seen])
    painted[seen, 3] = np.rint(strength[seen] * 255)
    buffer = io.BytesIO()
    Image.fromarray(painted).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
