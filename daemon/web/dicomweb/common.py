"""What the routes of DICOMweb have in common."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path as Folder
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.exceptions import HTTPException
from starlette.requests import Request

from daemon.web.access import Caller
from daemon.web.audited import note_look
from daemon.web.node import WebNode, node_of
from daemon.web.uids import UID_PATTERN
from db.objects import Scope, StoredObject, list_objects
from db.session import reading
from lungnode.errors import UnavailableError
from lungnode.store import Store, StoredFile, fetched

PREFIX: Final = "/dicomweb"
JSON: Final = "application/dicom+json"
DICOM: Final = "application/dicom"
_UNLIMITED: Final = 1 << 50
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
StudyUid = Annotated[str, Path(pattern=UID_PATTERN, max_length=64)]
SeriesUid = Annotated[str, Path(pattern=UID_PATTERN, max_length=64)]
InstanceUid = Annotated[str, Path(pattern=UID_PATTERN, max_length=64)]


def new_router() -> APIRouter:
    """Return a router of DICOMweb; its contract is PS3.18, so it is not in the OpenAPI document."""
    # Objects may have any size: they are written to the disk as they come, when it is known who sends them.
    return APIRouter(prefix=PREFIX, include_in_schema=False, max_body_size=_UNLIMITED)


def base_of(request: Request) -> str:
    """Return the address of the service, as the caller knows it.

    Some clients leave the port out of Host; it is added unless a proxy stands between.
    """
    scheme, place = request.url.scheme, request.url.netloc
    port = (request.scope.get("server") or ("", None))[1]
    is_direct = not node_of(request).settings.web.trusted_proxies
    if request.url.port is None and is_direct and port not in (None, _DEFAULT_PORTS.get(scheme)):
        place = f"{place}:{port}"
    return f"{scheme}://{place}{PREFIX}"


def address_of(base: str, held: StoredObject) -> str:
    """Return the address of an instance."""
    study, series = held.study_instance_uid, held.series_instance_uid
    return f"{base}/studies/{study}/series/{series}/instances/{held.sop_instance_uid}"


def file_of(node: WebNode, held: StoredObject) -> Folder:
    """Return the file of an object.

    Raises:
        UnavailableError: The store is away, or the file is damaged.
    """
    (path,) = _store_of(node, held).fetch([StoredFile.of(held)])
    return path


def files_of(node: WebNode, objects: Iterable[StoredObject]) -> Iterator[Folder | UnavailableError]:
    """Yield the files of objects in their order, some of them ahead; an error stands in for a damaged one.

    Raises:
        StoreAwayError: The store does not answer.
    """
    for _, same in groupby(objects, lambda held: held.is_output):
        of_one_store = list(same)
        yield from fetched(_store_of(node, of_one_store[0]), list(map(StoredFile.of, of_one_store)))


def _store_of(node: WebNode, held: StoredObject) -> Store:
    return node.outputs if held.is_output else node.archive


def retrieved(node: WebNode, caller: Caller, scope: Scope) -> list[StoredObject]:
    """Return the objects that somebody retrieves; the audit tells of it.

    Raises:
        HTTPException: There are none.
    """
    with reading(node.engine) as session:
        found = list_objects(session, scope)
    if not found:
        raise HTTPException(404, "There is no such study, series or instance.")
    note_look(node, caller, "study viewed", scope.study_instance_uid)
    return found
