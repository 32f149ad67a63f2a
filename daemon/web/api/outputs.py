"""REST: the objects that we composed."""

from typing import Annotated

from fastapi import Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from daemon.web.access import Caller, Viewer
from daemon.web.api.common import SopUid, Uid, router
from daemon.web.api.routing import is_known
from daemon.web.dicomweb.common import DICOM, file_of, retrieved
from daemon.web.dicomweb.images import encode_picture, frame_count, open_object, picture
from daemon.web.node import Node, WebNode
from db.objects import Scope, StoredObject
from lungnode.errors import UnusableError

api = router("outputs")
_BYTES = {"schema": {"type": "string", "format": "binary"}}


@api.get(
    "/studies/{study_instance_uid}/outputs/{sop_instance_uid}",
    response_class=FileResponse,
    responses={200: {"content": {DICOM: _BYTES}}},
)
def file(
    request: Request, study_instance_uid: Uid, sop_instance_uid: SopUid, node: Node, caller: Viewer
) -> Response:
    """Return an object as a DICOM file; it never changes."""
    held = _output(node, caller, study_instance_uid, sop_instance_uid)
    tag = f'"{held.digest}"'
    if is_known(request, tag):
        return Response(status_code=304, headers={"ETag": tag})
    path = file_of(node, held)
    if not path.exists():
        raise HTTPException(404, "Its file is gone.")
    headers = {"ETag": tag, "Content-Disposition": f'attachment; filename="{sop_instance_uid}.dcm"'}
    return FileResponse(path, media_type=DICOM, headers=headers)


@api.get(
    "/studies/{study_instance_uid}/outputs/{sop_instance_uid}/image",
    response_class=Response,
    responses={200: {"content": {"image/png": _BYTES}}},
)
def image(
    study_instance_uid: Uid,
    sop_instance_uid: SopUid,
    node: Node,
    caller: Viewer,
    frame: Annotated[int, Query(ge=1, le=100_000, description="of a multi-frame image")] = 1,
) -> Response:
    """Return a frame of an image as PNG."""
    ds = open_object(file_of(node, _output(node, caller, study_instance_uid, sop_instance_uid)))
    if not 1 <= frame <= frame_count(ds):
        raise UnusableError(f"The object has {frame_count(ds)} frames.")
    return Response(encode_picture(picture(ds, frame, None), "image/png", None), media_type="image/png")


def _output(node: WebNode, caller: Caller, study: str, sop_instance_uid: str) -> StoredObject:
    (held,) = retrieved(node, caller, Scope(study, sop_instance_uid=sop_instance_uid))
    if not held.is_output:
        raise HTTPException(404, "It is none of our objects; DICOMweb has what was received.")
    return held
