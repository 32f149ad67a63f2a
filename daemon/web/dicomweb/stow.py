"""STOW-RS: storing objects. Source: PS3.18 10.5."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from anyio import from_thread
from pydicom import Dataset
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from daemon.receiver.spool import AssociationOutcome
from daemon.web.access import Caller, Storer
from daemon.web.dicomweb.common import JSON, StudyUid, base_of, new_router
from daemon.web.dicomweb.intake import DICOM, Failure, Intake, Refused, Stored, identity_of
from daemon.web.node import Node, WebNode

router = new_router()
_BOUNDARY: Final = 70  # characters at most. Source: RFC 2046 5.1.1


@router.post("/studies")
def store(request: Request, node: Node, caller: Storer) -> Response:
    """Store objects of any study."""
    return _store(request, node, caller, "")


@router.post("/studies/{study}")
def store_in(request: Request, study: StudyUid, node: Node, caller: Storer) -> Response:
    """Store objects of one study; others are refused."""
    return _store(request, node, caller, study)


def _store(request: Request, node: WebNode, caller: Caller, study: str) -> Response:
    boundary = _boundary(request.headers.get("Content-Type", ""))
    identity = identity_of(caller.name, caller.address, node.settings)
    intake = Intake(node.settings, identity, study)
    outcome = AssociationOutcome.ABORTED
    try:
        parts = _Parts(intake)
        _read(request, MultipartParser(boundary, parts.callbacks()))
        if not parts.ended:
            raise HTTPException(400, "The body ends without its last boundary.")
        outcome = AssociationOutcome.RELEASED
    except MultipartParseError as error:
        raise HTTPException(400, "The body is not the multipart/related that its header promises.") from error
    finally:
        intake.close(outcome, node.clock())
    return _answer(request, intake.outcomes, study)


def _boundary(content_type: str) -> bytes:
    """Return the boundary of the parts.

    Raises:
        HTTPException: The body is no multipart/related of DICOM objects.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/related" or options.get(b"type", DICOM.encode()).lower() != DICOM.encode():
        raise HTTPException(415, f'Objects come as multipart/related; type="{DICOM}".')
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _BOUNDARY:
        raise HTTPException(400, "The Content-Type names no boundary.")
    return boundary


def _read(request: Request, parser: MultipartParser) -> None:
    """Feed the body to the parser as it comes; this runs in a thread, which may wait for the disk."""
    stream = request.stream()

    async def following() -> bytes | None:
        try:
            return await anext(stream)
        except StopAsyncIteration:
            return None

    try:
        while (piece := from_thread.run(following)) is not None:
            if piece:
                parser.write(piece)
    except ClientDisconnect as error:
        raise HTTPException(400, "The body ended too early.") from error
    parser.finalize()


class _Parts:
    """Hands the parts to the intake."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.ended = False  # whether the last boundary came
        self._name, self._value, self._media_type = b"", b"", DICOM

    def callbacks(self) -> Any:
        """Return what the parser calls."""
        named: tuple[Callable[..., None], ...] = (
            self.on_part_begin,
            self.on_header_field,
            self.on_header_value,
            self.on_header_end,
            self.on_headers_finished,
            self.on_part_data,
            self.on_part_end,
            self.on_end,
        )
        return {each.__name__: each for each in named}

    def on_part_begin(self) -> None:
        """Forget the part before."""
        self._name, self._value, self._media_type = b"", b"", DICOM

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a header's name."""
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of a header's value."""
        self._value += data[start:end]

    def on_header_end(self) -> None:
        """Look at a header."""
        if self._name.lower() == b"content-type":
            self._media_type = self._value.decode("latin-1")
        self._name = self._value = b""

    def on_headers_finished(self) -> None:
        """Begin the object."""
        self._intake.begin(self._media_type)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Take a piece of the object."""
        self._intake.append(data[start:end])

    def on_part_end(self) -> None:
        """End the object."""
        self._intake.finish()

    def on_end(self) -> None:
        """Note that there are no more."""
        self.ended = True


def _answer(request: Request, outcomes: Sequence[Stored | Refused], study: str) -> Response:
    """Tell of each object what became of it. Source: PS3.18 Table I.1-1 and 10.5.3."""
    if not outcomes:
        raise HTTPException(400, "The body holds no object.")
    base, answer = base_of(request), Dataset()
    stored = [each.header for each in outcomes if isinstance(each, Stored)]
    refused = [each for each in outcomes if isinstance(each, Refused)]
    studies = {study or header.study_instance_uid for header in stored}
    if len(studies) == 1:
        answer.RetrieveURL = f"{base}/studies/{next(iter(studies))}"
    if stored:
        answer.ReferencedSOPSequence = [_reference(header, base) for header in stored]
    failed = [_failure(each) for each in refused if each.header is not None]
    if failed:
        answer.FailedSOPSequence = failed
    others = [_failure(each) for each in refused if each.header is None]
    if others:
        answer.OtherFailuresSequence = others
    status = _status(stored, refused)
    return Response(json.dumps(answer.to_json_dict()), status, media_type=JSON)


def _reference(header: Any, base: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.sop_class_uid, header.sop_instance_uid
    item.RetrieveURL = (
        f"{base}/studies/{header.study_instance_uid}/series/{header.series_instance_uid}"
        f"/instances/{header.sop_instance_uid}"
    )
    return item


def _failure(refused: Refused) -> Dataset:
    item = Dataset()
    if refused.header is not None:
        item.ReferencedSOPClassUID = refused.header.sop_class_uid
        item.ReferencedSOPInstanceUID = refused.header.sop_instance_uid
    item.FailureReason = int(refused.reason)
    return item


def _status(stored: Sequence[Any], refused: Sequence[Refused]) -> int:
    if not refused:
        return 200
    if stored:
        return 202
    is_full = all(each.reason is Failure.OUT_OF_RESOURCES for each in refused)
    return 503 if is_full else 409
