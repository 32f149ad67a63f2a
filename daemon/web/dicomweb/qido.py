"""QIDO-RS: searching studies, series and instances. Source: PS3.18 10.6."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from daemon.web.access import Caller, Viewer
from daemon.web.audited import note_look
from daemon.web.dicomweb.accept import choose
from daemon.web.dicomweb.common import JSON, SeriesUid, StudyUid, base_of, file_of, new_router
from daemon.web.node import Node, WebNode
from db.dicom_queries import MatchedStudy, Matching, match_studies
from db.objects import Scope, StoredObject, list_objects
from db.session import reading
from lungnode.errors import LungnodeError
from lungnode.store import StoredFile

router = new_router()
LIMIT: Final = 100
MOST: Final = 1000
_PIECE: Final = 50  # studies that are looked into at once for series
# Attribute of the query, and the field of `Matching` that it becomes.
_STUDY_KEYS: Final = {
    "PatientName": "patient_name",
    "PatientID": "patient_id",
    "PatientBirthDate": "patient_birth_date",
    "PatientSex": "patient_sex",
    "AccessionNumber": "accession_number",
    "StudyDate": "study_date",
    "StudyDescription": "study_description",
    "ModalitiesInStudy": "modality",
}
_OBJECT_KEYS: Final[tuple[str, ...]] = ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# What is read from a file for each level, beside what the index knows. Source: PS3.18 Tables 10.6.3-3 to 5.
_OF_STUDY: Final = ("StudyTime", "ReferringPhysicianName", "StudyID", "TimezoneOffsetFromUTC")
_OF_SERIES: Final = (
    "Modality",
    "SeriesDescription",
    "SeriesNumber",
    "SeriesDate",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "TimezoneOffsetFromUTC",
)
_OF_INSTANCE: Final = ("InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames")
_TAG: Final = re.compile("[0-9A-Fa-f]{8}")
_LONGEST_WARNING: Final = 1000
_CONTROLS: Final = ("limit", "offset", "includefield", "fuzzymatching", "accept", "emptyvaluematching")


@dataclass(frozen=True)
class _Query:
    """What is asked for."""

    studies: Matching
    objects: dict[str, str]  # by keyword, of series and instances
    modality: str
    limit: int
    offset: int
    ignored: tuple[str, ...]

    def fits(self, held: StoredObject) -> bool:
        """Tell whether an object is asked for."""
        own = {
            "SeriesInstanceUID": held.series_instance_uid,
            "SOPInstanceUID": held.sop_instance_uid,
            "SOPClassUID": held.sop_class_uid,
        }
        return all(own[name] in value.replace("\\", ",").split(",") for name, value in self.objects.items())

    def page(self, found: Iterator[Dataset]) -> list[Dataset]:
        """Return the page that is asked for."""
        return list(islice(found, self.offset, self.offset + self.limit))


@router.get("/studies")
def studies(request: Request, node: Node, caller: Viewer) -> Response:
    """Search studies."""
    query = _query(request, {})
    with reading(node.engine) as session:
        found = match_studies(session, query.studies, query.limit, query.offset)
    base = base_of(request)
    with suppress(LungnodeError):  # the index answers what it knows
        node.archive.fetch([StoredFile(each.first_path) for each in found if each.first_path])
    return _answer(request, node, caller, [_study(node, each, base) for each in found], query)


@router.get("/series")
def all_series(request: Request, node: Node, caller: Viewer) -> Response:
    """Search series of all studies."""
    return _series(request, node, caller, _query(request, {}))


@router.get("/studies/{study}/series")
def series(request: Request, study: StudyUid, node: Node, caller: Viewer) -> Response:
    """Search series of a study."""
    return _series(request, node, caller, _query(request, {"StudyInstanceUID": study}))


@router.get("/instances")
def all_instances(request: Request, node: Node, caller: Viewer) -> Response:
    """Search instances of all studies."""
    return _instances(request, node, caller, _query(request, {}))


@router.get("/studies/{study}/instances")
def instances(request: Request, study: StudyUid, node: Node, caller: Viewer) -> Response:
    """Search instances of a study."""
    return _instances(request, node, caller, _query(request, {"StudyInstanceUID": study}))


@router.get("/studies/{study}/series/{series}/instances")
def series_instances(
    request: Request, study: StudyUid, series: SeriesUid, node: Node, caller: Viewer
) -> Response:
    """Search instances of a series."""
    named = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return _instances(request, node, caller, _query(request, named))


def _query(request: Request, named: dict[str, str]) -> _Query:
    """Read the query; what cannot be matched is ignored, and said so."""
    if "\0" in "".join(request.query_params.values()):
        raise HTTPException(400, "No attribute holds the character NUL.")
    given = {_keyword(name): value for name, value in request.query_params.items() if name not in _CONTROLS}
    given = {name: value for name, value in given.items() if value.strip("*")} | named
    uids = given.pop("StudyInstanceUID", "")
    matching = {field: given.pop(name) for name, field in _STUDY_KEYS.items() if name in given}
    modality = given.pop("Modality", "")
    if modality:
        matching["modality"] = modality
    objects = {name: given.pop(name) for name in _OBJECT_KEYS if name in given}
    return _Query(
        Matching(tuple(filter(None, uids.replace("\\", ",").split(","))), **matching),
        objects,
        modality,
        _number(request, "limit", LIMIT, MOST),
        _number(request, "offset", 0, 10_000_000),
        tuple(given),
    )


def _keyword(name: str) -> str:
    """Return the keyword of an attribute that is named by keyword or tag."""
    is_tag = _TAG.fullmatch(name) is not None
    return (keyword_for_tag(int(name, 16)) if is_tag else "") or name


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise HTTPException(400, f"{name} is a number.")
    return min(int(text[:12]), most)


def _series(request: Request, node: WebNode, caller: Caller, query: _Query) -> Response:
    base = base_of(request)

    def found() -> Iterator[Dataset]:
        for held in _by_series(_objects(node, query)):
            ds = _read(_file_of(node, held[0]), (*_OF_SERIES, "StudyInstanceUID", "SeriesInstanceUID"))
            if query.modality and ds.get("Modality") != query.modality:
                continue
            first = held[0]
            ds.StudyInstanceUID, ds.SeriesInstanceUID = first.study_instance_uid, first.series_instance_uid
            ds.NumberOfSeriesRelatedInstances = len(held)
            ds.RetrieveURL = f"{base}/studies/{first.study_instance_uid}/series/{first.series_instance_uid}"
            yield ds

    return _answer(request, node, caller, query.page(found()), query)


def _instances(request: Request, node: WebNode, caller: Caller, query: _Query) -> Response:
    base = base_of(request)

    def found() -> Iterator[Dataset]:
        for held in _objects(node, query):
            read = _read(_file_of(node, held), ("Modality",)) if query.modality else Dataset()
            if query.modality in ("", read.get("Modality")):
                yield _instance(node, held, base)

    return _answer(request, node, caller, query.page(found()), query)


def _objects(node: WebNode, query: _Query) -> Iterator[StoredObject]:
    """Yield the objects of the studies that match, a few studies at a time."""
    offset = 0
    while True:
        with reading(node.engine) as session:
            matched = match_studies(session, query.studies, _PIECE, offset)
            scopes = [Scope(each.study.study_instance_uid) for each in matched]
            held = [each for scope in scopes for each in list_objects(session, scope)]
        yield from filter(query.fits, held)
        if len(matched) < _PIECE:
            return
        offset += _PIECE


def _by_series(objects: Iterable[StoredObject]) -> Iterator[list[StoredObject]]:
    for _, of_study in groupby(objects, key=lambda held: held.study_instance_uid):
        series: dict[str, list[StoredObject]] = {}
        for held in of_study:
            series.setdefault(held.series_instance_uid, []).append(held)
        yield from series.values()


def _study(node: WebNode, matched: MatchedStudy, base: str) -> Dataset:
    study = matched.study
    ds = _read(node.archive.root / matched.first_path, _OF_STUDY) if matched.first_path else Dataset()
    # What the index says goes before what the file says: it may have been corrected.
    for keyword, value in (
        ("StudyInstanceUID", study.study_instance_uid),
        ("StudyDate", study.study_date),
        ("AccessionNumber", study.accession_number),
        ("StudyDescription", study.study_description),
        ("PatientName", study.patient_name),
        ("PatientID", study.patient_id),
        ("PatientBirthDate", study.patient_birth_date),
        ("PatientSex", study.patient_sex),
        ("InstanceAvailability", "ONLINE"),
        ("ModalitiesInStudy", list(matched.modalities)),
        ("NumberOfStudyRelatedSeries", matched.series),
        ("NumberOfStudyRelatedInstances", matched.instances),
        ("RetrieveURL", f"{base}/studies/{study.study_instance_uid}"),
    ):
        ds.add_new(tag_for_keyword(keyword) or 0, dictionary_VR(keyword), value)
    return ds


def _instance(node: WebNode, held: StoredObject, base: str) -> Dataset:
    ds = _read(_file_of(node, held), _OF_INSTANCE)
    series = f"{base}/studies/{held.study_instance_uid}/series/{held.series_instance_uid}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = held.study_instance_uid, held.series_instance_uid
    ds.SOPInstanceUID, ds.SOPClassUID = held.sop_instance_uid, held.sop_class_uid
    ds.InstanceAvailability = "ONLINE"
    ds.RetrieveURL = f"{series}/instances/{held.sop_instance_uid}"
    return ds


def _file_of(node: WebNode, held: StoredObject) -> Path:
    """Return the file of an object; where it cannot be had, a path at which there is nothing."""
    try:
        return file_of(node, held)
    except LungnodeError:
        return node.archive.root / "away"


def _read(path: Path, keywords: Iterable[str]) -> Dataset:
    """Read some attributes of a file; none where it cannot be read."""
    tags = [tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None]
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=[*tags])
        return Dataset({element.tag: element for element in found if element.tag != _CHARACTER_SET})
    except Exception:  # noqa: BLE001 - untrusted bytes; the index has answered what it knows
        return Dataset()


_CHARACTER_SET: Final = 0x00080005  # the answer is in UTF-8


def _answer(request: Request, node: WebNode, caller: Caller, found: list[Dataset], query: _Query) -> Response:
    choose(request, [JSON, "application/json"])
    note_look(node, caller, "studies listed", "dicomweb", path=request.scope["route"].path)
    # Whatever was asked for comes back in a header: in ASCII, without ends of lines, and not endlessly.
    ignored = ", ".join(quote(name) for name in query.ignored)[:_LONGEST_WARNING]
    headers = {"Warning": f'299 lungnode "not matched: {ignored}"'} if ignored else {}
    if not found:
        return Response(status_code=204, headers=headers)
    body: list[Any] = [ds.to_json_dict(suppress_invalid_tags=True) for ds in found]
    return Response(json.dumps(body), media_type=JSON, headers=headers)
