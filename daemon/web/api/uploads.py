"""REST: files that are classified at once, beside all studies."""

import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path as Folder
from typing import Annotated, Any, Final

from anyio import sleep
from fastapi import Path, Query
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive

from daemon.receiver.disk import Disk
from daemon.web.access import Caller, Uploader
from daemon.web.api.common import PREFIX, Document, Given, router
from daemon.web.audited import writing
from daemon.web.node import Node, WebNode
from daemon.web.unpacking import MEMBERS, Unpacked, remove
from db import audit
from db.models import Upload, UploadState
from db.session import reading
from db.uploads import Owner, find_upload, list_uploads
from lungnode.broker import ring_for_upload
from lungnode.errors import UnusableError

api = router("uploads")
FILES: Final = "files"  # below an upload's folder; the worker reads it
HEATMAPS: Final = "heatmaps"
NAMES: Final = "names.json"  # what the files were called, by our names
_LOOK_S: Final = 0.05  # how often a request that waits looks
_LONGEST_S: Final = 30
_SPARE: Final = 1_000_000  # of a body beside its files
# Parsed when we know who sends it, so the limit of a body is ours, not the router's.
_UNLIMITED: Final = 1 << 50
_ENDED: Final = (UploadState.DONE, UploadState.FAILED)
Key = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="its key")]
Picture = Annotated[str, Path(pattern=r"^[0-9]{4,6}-[0-9]{4,6}\.png$")]
Wait = Annotated[float, Query(ge=0, le=_LONGEST_S, description="seconds to wait for the answer")]
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "JPEG, PNG or DICOM files, or a zip of those",
                        }
                    },
                }
            }
        },
    }
}
_PNG: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}


class UploadDocument(Document):
    """An upload and, when it is done, what it shows."""

    key: str
    name: str
    files: int
    size: int
    state: UploadState
    progress: dict[str, Any] = Field(description="phase, and how many slices of it are done")
    result: dict[str, Any] = Field(description="model, threshold and items, as of `lungnode classify --json`")
    reason: str
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="when it is deleted; empty: it is kept")


class UploadList(BaseModel):
    """The caller's uploads."""

    uploads: list[UploadDocument]


class Keeping(Given):
    """Whether an upload is kept."""

    kept: bool


@api.post("/uploads", status_code=201, openapi_extra=_FORM, max_body_size=_UNLIMITED)
async def upload(
    request: Request, response: Response, node: Node, caller: Uploader, wait_s: Wait = 0
) -> UploadDocument:
    """Have files classified, before all studies; `wait_s` waits for the answer."""
    files = await _files(request, node.settings.web.upload_bytes)
    try:
        key = await run_in_threadpool(_keep, node, caller, files)
    finally:
        for file in files:
            await file.close()
    response.headers["Location"] = f"{PREFIX}/uploads/{key}"
    return await _awaited(node, caller, key, wait_s)


@api.get("/uploads")
def list_(node: Node, caller: Uploader) -> UploadList:
    """List one's own uploads, the newest first."""
    with reading(node.engine) as session:
        rows = list_uploads(session, _owner(caller))
    return UploadList(uploads=[UploadDocument.model_validate(row) for row in rows])


@api.get("/uploads/{key}")
async def show(key: Key, node: Node, caller: Uploader, wait_s: Wait = 0) -> UploadDocument:
    """Return an upload; `wait_s` waits for the answer."""
    return await _awaited(node, caller, key, wait_s)


@api.put("/uploads/{key}/kept")
def keep(key: Key, how: Keeping, node: Node, caller: Uploader) -> UploadDocument:
    """Keep an upload, or let it go in an hour."""
    lasts = timedelta(seconds=node.settings.web.upload_s)
    with writing(node, caller) as session:
        row = find_upload(session, key, _owner(caller))
        if row is None:
            raise HTTPException(404, "There is no such upload.")
        row.expires_at = None if how.kept else node.clock() + lasts
        return UploadDocument.model_validate(row)


@api.delete("/uploads/{key}", status_code=204)
def delete(key: Key, node: Node, caller: Uploader) -> None:
    """Delete an upload and its files."""
    with writing(node, caller) as session:
        row = find_upload(session, key, _owner(caller))
        if row is None:
            raise HTTPException(404, "There is no such upload.")
        if row.state == UploadState.RUNNING:
            raise UnusableError("The upload is at work; delete it when it is done.")
        session.delete(row)
    remove(node.settings.uploads / key)


@api.get("/uploads/{key}/heatmaps/{picture}", response_class=FileResponse, responses=_PNG)
def heatmap(key: Key, picture: Picture, node: Node, caller: Uploader) -> Response:
    """Return a heatmap that an item's slice names."""
    _upload(node, caller, key)
    path = node.settings.uploads / key / HEATMAPS / picture
    if not path.is_file():
        raise HTTPException(404, "There is no such heatmap.")
    return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


async def _files(request: Request, most_bytes: int) -> list[UploadFile]:
    """Read the form.

    Raises:
        HTTPException: It is too large, no form, or without files.
    """
    limited = Request(request.scope, _limited(request.receive, most_bytes))
    try:
        form = await limited.form(max_files=MEMBERS, max_fields=10)
    except MultiPartException as error:
        raise HTTPException(400, error.message) from error
    except OSError as error:
        raise HTTPException(503, "The disk does not take the files.", {"Retry-After": "60"}) from error
    files = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
    if not files:
        raise HTTPException(400, "The form holds no files.")
    return files


def _limited(receive: Receive, most_bytes: int) -> Receive:
    """Count what comes: a body that comes in chunks announces no length, and an announced one may lie."""
    left = most_bytes + _SPARE

    async def counting() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"An upload has {most_bytes} bytes at most.")
        return message

    return counting


def _keep(node: WebNode, caller: Caller, files: Sequence[UploadFile]) -> str:
    """Write the files to a folder of their own, and wake a worker."""
    settings, key, now = node.settings, secrets.token_hex(16), node.clock()
    folder = settings.uploads / key
    settings.uploads.mkdir(mode=0o750, parents=True, exist_ok=True)
    if Disk(settings.uploads, settings.receiver).is_full():
        raise HTTPException(503, "The disk is full.", {"Retry-After": "60"})
    unpacked = Unpacked(folder / FILES, 2 * settings.web.upload_bytes)
    try:
        _make(unpacked.folder)
        for file in files:
            unpacked.take((file.filename or "The file")[:100], file.file)
        (folder / NAMES).write_text(json.dumps(unpacked.names))
        row = Upload(
            key=key,
            account_id=caller.account_id,
            session=caller.session,
            name=(files[0].filename or "")[:255].replace("\0", ""),
            files=unpacked.files,
            size=unpacked.size,
            due_at=now,
            created_at=now,
            expires_at=now + timedelta(seconds=settings.web.upload_s),
        )
        with writing(node, caller) as session:
            session.add(row)
            audit.record(session, "files uploaded", key, now, files=unpacked.files, size=unpacked.size)
    except OSError as error:
        remove(folder)
        raise HTTPException(503, "The disk does not take the files.", {"Retry-After": "60"}) from error
    except BaseException:
        remove(folder)
        raise
    ring_for_upload(settings.broker)
    return key


def _make(folder: Folder) -> None:
    folder.parent.mkdir(mode=0o750)
    folder.mkdir(mode=0o750)


async def _awaited(node: WebNode, caller: Caller, key: str, wait_s: float) -> UploadDocument:
    """Return an upload when it has ended, or as it is after so many seconds."""
    left_s = wait_s
    while True:
        row = await run_in_threadpool(_upload, node, caller, key)
        if left_s <= 0 or row.state in _ENDED:
            return UploadDocument.model_validate(row)
        await sleep(_LOOK_S)
        left_s -= _LOOK_S


def _upload(node: WebNode, caller: Caller, key: str) -> Upload:
    with reading(node.engine) as session:
        row = find_upload(session, key, _owner(caller))
    if row is None:
        raise HTTPException(404, "There is no such upload.")
    return row


def _owner(caller: Caller) -> Owner:
    return Owner(caller.account_id, caller.session)
