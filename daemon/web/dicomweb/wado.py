"""WADO-RS: objects as they are stored, their metadata, their frames. Source: PS3.18 10.4."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path as Folder
from typing import Annotated

from fastapi import Path
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from daemon.web.access import Caller, Viewer
from daemon.web.dicomweb.accept import ANY, accepted, choose
from daemon.web.dicomweb.common import (
    DICOM,
    JSON,
    InstanceUid,
    SeriesUid,
    StudyUid,
    address_of,
    base_of,
    file_of,
    files_of,
    new_router,
    retrieved,
)
from daemon.web.dicomweb.images import (
    explicit_little_endian,
    frame_count,
    native_frame,
    open_object,
    stored_frame,
)
from daemon.web.dicomweb.metadata import as_json, bulk_value
from daemon.web.dicomweb.multipart import Part, related
from daemon.web.node import Node, WebNode
from db.objects import Scope, StoredObject
from lungnode.errors import LungnodeError, UnavailableError

_LOG = logging.getLogger(__name__)
router = new_router()
_STUDY = "/studies/{study}"
_SERIES = f"{_STUDY}/series/{{series}}"
_INSTANCE = f"{_SERIES}/instances/{{instance}}"
_OCTETS = "application/octet-stream"
FrameList = Annotated[str, Path(pattern=r"^[0-9]{1,5}(,[0-9]{1,5}){0,4095}$")]
# Source: PS3.18 Table 8.7.3-5, the media types of compressed frames.
_COMPRESSED = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
}


@router.get(_STUDY)
def study(request: Request, study: StudyUid, node: Node, caller: Viewer) -> Response:
    """Return the objects of a study."""
    return _objects(request, node, caller, Scope(study))


@router.get(_SERIES)
def series(request: Request, study: StudyUid, series: SeriesUid, node: Node, caller: Viewer) -> Response:
    """Return the objects of a series."""
    return _objects(request, node, caller, Scope(study, series))


@router.get(_INSTANCE)
def instance(
    request: Request, study: StudyUid, series: SeriesUid, instance: InstanceUid, node: Node, caller: Viewer
) -> Response:
    """Return one object."""
    return _objects(request, node, caller, Scope(study, series, instance))


@router.get(f"{_STUDY}/metadata")
def study_metadata(request: Request, study: StudyUid, node: Node, caller: Viewer) -> Response:
    """Return the attributes of all objects of a study."""
    return _metadata(request, node, caller, Scope(study))


@router.get(f"{_SERIES}/metadata")
def series_metadata(
    request: Request, study: StudyUid, series: SeriesUid, node: Node, caller: Viewer
) -> Response:
    """Return the attributes of all objects of a series."""
    return _metadata(request, node, caller, Scope(study, series))


@router.get(f"{_INSTANCE}/metadata")
def instance_metadata(
    request: Request, study: StudyUid, series: SeriesUid, instance: InstanceUid, node: Node, caller: Viewer
) -> Response:
    """Return the attributes of an object."""
    return _metadata(request, node, caller, Scope(study, series, instance))


@router.get(f"{_INSTANCE}/frames/{{frames}}")
def frames(  # noqa: PLR0913, PLR0917 - the parts of the address
    request: Request,
    study: StudyUid,
    series: SeriesUid,
    instance: InstanceUid,
    frames: FrameList,
    node: Node,
    caller: Viewer,
) -> Response:
    """Return frames: as they are stored where the caller takes that, else uncompressed."""
    (held,) = retrieved(node, caller, Scope(study, series, instance))
    ds = open_object(file_of(node, held))
    numbers = [int(number) for number in frames.split(",")]
    if not all(1 <= number <= frame_count(ds) for number in numbers):
        raise HTTPException(404, f"The instance has {frame_count(ds)} frames.")
    syntax = UID(ds.file_meta.TransferSyntaxUID)
    stored_type = _COMPRESSED.get(syntax, _OCTETS)
    address = f"{address_of(base_of(request), held)}/frames"
    if _takes_stored(request, syntax, stored_type):
        kind = f"{stored_type}; transfer-syntax={syntax}"
        parts = (Part(kind, stored_frame(ds, number), f"{address}/{number}") for number in numbers)
        return related(stored_type, parts)
    choose(request, [_OCTETS])
    kind = f"{_OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"
    made = [Part(kind, native_frame(ds, number), f"{address}/{number}") for number in numbers]
    return related(_OCTETS, made)


@router.get(f"{_INSTANCE}/bulkdata/{{path:path}}")
def bulk_data(  # noqa: PLR0913, PLR0917 - the parts of the address
    request: Request,
    study: StudyUid,
    series: SeriesUid,
    instance: InstanceUid,
    path: str,
    node: Node,
    caller: Viewer,
) -> Response:
    """Return a long value that the metadata only points to."""
    choose(request, [_OCTETS])
    (held,) = retrieved(node, caller, Scope(study, series, instance))
    value = bulk_value(open_object(file_of(node, held)), path)
    if value is None:
        raise HTTPException(404, "The instance has no such value.")
    return related(_OCTETS, [Part(_OCTETS, value, request.url.path)])


def _takes_stored(request: Request, syntax: UID, stored_type: str) -> bool:
    """Tell whether the caller takes frames in the transfer syntax they are stored in, before uncompressed.

    Without a transfer syntax, application/octet-stream means uncompressed. Source: PS3.18 Table 8.7.3-5.
    """
    if not syntax.is_encapsulated:
        return False
    for wanted in accepted(request):
        if wanted.transfer_syntax in (ANY, syntax):
            return True
        if wanted.takes(_OCTETS):
            return False
        if wanted.takes(stored_type) and not wanted.transfer_syntax:
            return True
    return False


def _objects(request: Request, node: WebNode, caller: Caller, scope: Scope) -> Response:
    found = retrieved(node, caller, scope)
    syntaxes = _wanted_syntaxes(request)
    planned = [(held, _as_stored(held, node, syntaxes)) for held in found]
    if scope.sop_instance_uid and accepted(request)[0].name == DICOM and not accepted(request)[0].multipart:
        part = next(_parts(node, planned))
        body = part.body if isinstance(part.body, bytes) else part.body.read_bytes()
        return Response(body, media_type=part.media_type)
    return related(DICOM, _parts(node, planned))


def _wanted_syntaxes(request: Request) -> list[str]:
    """Return the transfer syntaxes that the caller takes objects in; without one named, the default.

    Raises:
        HTTPException: It takes no objects.
    """
    wanted = [each for each in accepted(request) if each.takes(DICOM)]
    if not wanted:
        raise HTTPException(406, f"There is {DICOM}; the request does not take it.")
    # Source: PS3.18 8.7.3.5.2, the default is Explicit VR Little Endian.
    return [each.transfer_syntax or str(ExplicitVRLittleEndian) for each in wanted]


def _as_stored(held: StoredObject, node: WebNode, syntaxes: Sequence[str]) -> bool:
    """Tell whether an object goes as it is stored, or has to be decoded.

    Raises:
        HTTPException: Neither is taken.
    """
    syntax = held.transfer_syntax_uid or str(read_file_meta_info(file_of(node, held)).TransferSyntaxUID)
    if ANY in syntaxes or syntax in syntaxes:
        return True
    if str(ExplicitVRLittleEndian) in syntaxes:
        return False
    raise HTTPException(
        406, f"An object is stored in transfer syntax {syntax}; ask for it, for * or the default."
    )


def _parts(node: WebNode, planned: Sequence[tuple[StoredObject, bool]]) -> Iterator[Part]:
    paths = files_of(node, (held for held, _ in planned))
    for (held, as_stored), path in zip(planned, paths, strict=True):
        if isinstance(path, UnavailableError):
            _LOG.warning("instance %s is damaged and left out of a retrieval", held.sop_instance_uid)
            continue
        if as_stored:
            if path.exists():
                yield Part(DICOM, path)
            continue
        try:
            yield Part(DICOM, explicit_little_endian(open_object(path)))
        except LungnodeError:
            # The answer has begun; the caller counts what it gets.
            _LOG.warning("instance %s cannot be decoded for a retrieval", held.sop_instance_uid)


def _metadata(request: Request, node: WebNode, caller: Caller, scope: Scope) -> Response:
    choose(request, [JSON, "application/json"])
    found, base = retrieved(node, caller, scope), base_of(request)

    def written() -> Iterator[bytes]:
        mark = b"["
        for held, path in zip(found, files_of(node, found), strict=True):
            try:
                document = as_json(open_object(_whole(path), pixels=False), address_of(base, held))
            except LungnodeError:
                _LOG.warning("instance %s cannot be read for its metadata", held.sop_instance_uid)
                continue
            yield mark + json.dumps(document).encode()
            mark = b","
        yield b"]" if mark == b"," else b"[]"

    return StreamingResponse(written(), media_type=JSON)


def _whole(path: Folder | UnavailableError) -> Folder:
    if isinstance(path, UnavailableError):
        raise path
    return path
