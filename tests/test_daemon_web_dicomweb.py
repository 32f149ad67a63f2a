"""DICOMweb with a client library that others use: what was stored is found, and read back bit for bit."""

import io
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import requests
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from sqlalchemy import select

from db.models import Analysis, AuditEvent, Output, Study
from db.session import reading, transaction
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.settings import ReceiverSettings
from tests.ct_images import ENCODERS
from tests.databases import new_sqlite
from tests.nodes import wait_for
from tests.spooling import NOON, ClerkNode, ct, write
from tests.web import Web, serving

OCTETS = (("application/octet-stream", "*"),)
OTHER = "1.2.840.99999.77"
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1, JPEGLSLossless, RLELossless)


@dataclass
class Service:
    """A web with a clerk, and the files of a study that was stored over STOW-RS."""

    web: Web
    clerk: ClerkNode
    address: str
    phantom: PhantomStudy
    files: dict[str, bytes] = field(default_factory=dict)  # as sent, by SOP Instance UID

    def client(self, *scopes: str) -> DICOMwebClient:
        """Return a client of the library."""
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {self.web.token('reader', *scopes)}"
        return DICOMwebClient(f"{self.address}/dicomweb", session=session)

    def http(self, *scopes: str) -> httpx.Client:
        """Return a plain client."""
        token = self.web.token("reader", *scopes)
        return httpx.Client(
            base_url=f"{self.address}/dicomweb", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )

    @property
    def study(self) -> str:
        """The study's UID."""
        return self.phantom.study_instance_uid


def encoded(path: Path, number: int) -> bytes:
    """Return a phantom's slice in one of several transfer syntaxes."""
    ds = dcmread(path)
    syntax = SYNTAXES[number % len(SYNTAXES)]
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    elif syntax.is_encapsulated:
        ds.PixelData = encapsulate([ENCODERS[syntax](ds.pixel_array)])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = syntax
    ds.PatientName = "Müller^Änne=山田^太郎"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.add_new(0x00091010, "OB", bytes(range(256)) * 8)  # private, long
    ds.add_new(0x00090010, "LO", "TESTS")
    buffer = io.BytesIO()
    ds.file_meta.TransferSyntaxUID = syntax
    implicit = syntax == ImplicitVRLittleEndian
    ds.save_as(buffer, enforce_file_format=True, implicit_vr=implicit, little_endian=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("dicomweb")
    engine = new_sqlite(f"sqlite:///{folder / 'lungnode.sqlite3'}")
    receiver = ReceiverSettings(disk_reject_bytes=0, disk_warn_bytes=0)
    web = Web(engine, folder / "data", {"receiver": receiver})
    phantom = phantom_study(folder / "phantom", 10, size=64)
    clerk = ClerkNode(engine, web.node.settings)
    with serving(web.app) as address:
        service = Service(web, clerk, address, phantom)
        for number, path in enumerate(phantom.paths):
            content = encoded(path, number)
            service.files[str(dcmread(io.BytesIO(content)).SOPInstanceUID)] = content
        yield service
    engine.dispose()


@pytest.fixture(scope="module")
def stored(service: Service) -> Dataset:
    """What STOW-RS answered; the clerk has indexed all of it."""
    datasets = [dcmread(io.BytesIO(content)) for content in service.files.values()]
    answer = service.client("store").store_instances(datasets)
    service.clerk.clerk.round()
    add_report(service)
    return answer


def add_report(service: Service) -> None:
    """Add a result of ours, in two classes of which one is listed."""
    source = dcmread(service.phantom.paths[0])
    with transaction(service.web.engine) as session:
        study = session.scalars(select(Study)).one()
        analysis = Analysis(study_id=study.id, revision=9, state="done", created_at=NOON, due_at=NOON)
        session.add(analysis)
        session.flush()
        for group in ("sr", "sr-comp"):
            uid = generate_uid()
            path = service.web.node.settings.outputs / f"{uid}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            report = Dataset()
            report.update({each.tag: each for each in source if each.tag.group == 0x0010})
            report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", uid
            report.StudyInstanceUID, report.SeriesInstanceUID = study.study_instance_uid, f"{uid[:60]}.9"
            report.Modality = "SR"
            report.file_meta = source.file_meta
            report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
            report.file_meta.MediaStorageSOPInstanceUID = uid
            report.save_as(path, enforce_file_format=True)
            session.add(
                Output(
                    analysis_id=analysis.id,
                    group=group,
                    sop_class_uid=report.SOPClassUID,
                    sop_instance_uid=uid,
                    series_instance_uid=report.SeriesInstanceUID,
                    path=path.name,
                    size=path.stat().st_size,
                    digest=sha256(path.read_bytes()).hexdigest(),
                )
            )


def test_every_object_is_acknowledged_with_where_it_can_be_retrieved(
    service: Service, stored: Dataset
) -> None:
    assert {item.ReferencedSOPInstanceUID for item in stored.ReferencedSOPSequence} == set(service.files)
    assert stored.RetrieveURL == f"{service.address}/dicomweb/studies/{service.study}"
    assert "FailedSOPSequence" not in stored


@pytest.mark.usefixtures("stored")
def test_what_was_stored_is_read_back_bit_for_bit(service: Service) -> None:
    query = "transfer-syntax=*"
    with service.http("view") as http:
        answer = http.get(
            f"/studies/{service.study}",
            headers={"Accept": f'multipart/related; type="application/dicom"; {query}'},
        )

    parts = split(answer)
    kept = {str(dcmread(io.BytesIO(part)).SOPInstanceUID): part for part in parts}
    assert {uid: kept[uid] for uid in service.files} == service.files


def split(answer: Any) -> list[bytes]:
    """Return the bodies of a multipart answer."""
    boundary = answer.headers["content-type"].split("boundary=")[1].encode()
    whole = answer.content.split(b"--" + boundary)
    return [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in whole[1:-1]]


@pytest.mark.usefixtures("stored")
def test_the_clients_retrievals_hold_the_same_attributes_and_pixels(service: Service) -> None:
    client = service.client("view")
    series = str(dcmread(service.phantom.paths[0]).SeriesInstanceUID)

    found = client.retrieve_series(service.study, series)

    assert len(found) == len(service.files)
    for ds in found:
        sent = dcmread(io.BytesIO(service.files[str(ds.SOPInstanceUID)]))
        assert ds.PatientName == sent.PatientName
        assert ds[0x00091010].value == sent[0x00091010].value


@pytest.mark.usefixtures("stored")
def test_without_a_transfer_syntax_objects_come_uncompressed_and_their_pixels_are_the_same(
    service: Service,
) -> None:
    with service.http("view") as http:
        answer = http.get(
            f"/studies/{service.study}", headers={"Accept": 'multipart/related; type="application/dicom"'}
        )

    pixels = {path.name: dcmread(path).pixel_array for path in service.phantom.paths}
    found = [dcmread(io.BytesIO(part)) for part in split(answer)]
    images = [ds for ds in found if "PixelData" in ds]
    assert {ds.file_meta.TransferSyntaxUID for ds in found} == {ExplicitVRLittleEndian}
    assert len(images) == len(pixels)
    by_position = sorted(images, key=lambda ds: -float(ds.ImagePositionPatient[2]))
    for ds, path in zip(by_position, service.phantom.paths, strict=True):
        assert np.array_equal(ds.pixel_array, dcmread(path).pixel_array)


@pytest.mark.usefixtures("stored")
def test_frames_are_the_pixels_that_were_sent_in_every_transfer_syntax(service: Service) -> None:
    client = service.client("view")
    for content in service.files.values():
        sent = dcmread(io.BytesIO(content))
        path = next(p for p in service.phantom.paths if dcmread(p).SOPInstanceUID == sent.SOPInstanceUID)
        native = client.retrieve_instance_frames(
            service.study, sent.SeriesInstanceUID, sent.SOPInstanceUID, [1], media_types=OCTETS
        )
        with service.http("view") as http:
            address = (
                f"/studies/{service.study}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"
            )
            plain = split(http.get(f"{address}/frames/1"))[0]
        assert plain == dcmread(path).PixelData
        if not sent.file_meta.TransferSyntaxUID.is_encapsulated:
            assert native[0] == dcmread(path).PixelData


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, 1),
        ({"PatientName": "Müller^Änne"}, 0),
        ({"PatientName": "muller*"}, 1),
        ({"PatientName": "*YAMADA*"}, 0),
        ({"PatientID": "PHANTO?"}, 1),
        ({"PatientID": "PHANTO"}, 0),
        ({"00100020": "PHAN*"}, 1),
        ({"StudyInstanceUID": "1.2.3"}, 0),
        ({"ModalitiesInStudy": "CT"}, 1),
        ({"ModalitiesInStudy": "MR"}, 0),
        ({"StudyDate": "19000101-20991231"}, 1),
        ({"StudyDate": "-19000101"}, 0),
        ({"AccessionNumber": "none"}, 0),
    ],
)
def test_studies_are_searched_by_attribute(service: Service, asked: dict[str, str], count: int) -> None:
    found = service.client("view").search_for_studies(search_filters=asked)

    assert len(found) == count
    for each in found:
        ds = Dataset.from_json(each)
        assert (ds.StudyInstanceUID, ds.ModalitiesInStudy) == (service.study, "CT")
        assert ds.NumberOfStudyRelatedInstances == len(service.files)
        assert str(ds.PatientName) == "Müller^Änne=山田^太郎"
        assert "StudyID" in ds


@pytest.mark.usefixtures("stored")
def test_series_and_instances_are_listed_with_our_result_in_one_class(service: Service) -> None:
    client = service.client("view")

    series = [Dataset.from_json(each) for each in client.search_for_series(service.study)]
    instances = client.search_for_instances(service.study)
    page = client.search_for_instances(service.study, limit=3, offset=9)
    images = [Dataset.from_json(each) for each in client.search_for_series(search_filters={"Modality": "CT"})]

    assert {(ds.Modality, ds.NumberOfSeriesRelatedInstances) for ds in series} == {("CT", 10), ("SR", 1)}
    assert (len(instances), len(page), len(images)) == (11, 2, 1)
    assert {Dataset.from_json(each).get("Rows") for each in instances} == {64, None}


@pytest.mark.usefixtures("stored")
def test_metadata_points_to_long_values_that_can_be_retrieved(service: Service) -> None:
    client = service.client("view")

    metadata = client.retrieve_study_metadata(service.study)

    first = next(each for each in metadata if "00091010" in each)
    assert len(metadata) == 11
    assert first["00080060"]["Value"] == ["CT"]
    assert first["00100010"]["Value"] == [{"Alphabetic": "Müller^Änne", "Ideographic": "山田^太郎"}]
    (value,) = client.retrieve_bulkdata(first["00091010"]["BulkDataURI"])
    assert value == bytes(range(256)) * 8
    assert client.retrieve_bulkdata(first["7FE00010"]["BulkDataURI"])


@pytest.mark.usefixtures("stored")
def test_rendered_slices_follow_the_window_and_the_viewport(service: Service) -> None:
    sent = dcmread(service.phantom.paths[5])
    address = f"/studies/{service.study}/series/{sent.SeriesInstanceUID}/instances/{sent.SOPInstanceUID}"

    def shown(query: str, accept: str = "image/png") -> Any:
        answer = http.get(f"{address}{query}", headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    with service.http("view") as http:
        lung, soft = shown("/rendered?window=-600,1500"), shown("/frames/1/rendered?window=40,400,linear")
        small, thumbnail = shown("/rendered?viewport=32,32"), shown("/thumbnail", "image/jpeg")
        wrong = [
            http.get(f"{address}/rendered{query}").status_code
            for query in ("?window=x", "?window=1,2,sigmoid", "?viewport=0,5", "?window=--,1")
        ]
        other = http.get(f"{address}/rendered", headers={"Accept": "video/mp4"}).status_code
        beyond = http.get(f"{address}/frames/2/rendered").status_code

    hounsfield = sent.pixel_array.astype(float) * sent.RescaleSlope + sent.RescaleIntercept
    # Source: PS3.3 C.11.2.1.2.1, LINEAR, y from 0 to 255.
    expected = (((hounsfield + 600.5) / 1499 + 0.5).clip(0, 1) * 255).round()
    assert np.abs(lung.astype(float) - expected).max() <= 1
    assert not np.array_equal(lung, soft)
    assert (small.shape, thumbnail.shape) == ((32, 32), (64, 64))
    assert wrong == [422, 400, 400, 422]
    assert (other, beyond) == (406, 406)


@pytest.mark.usefixtures("stored")
def test_a_report_has_no_picture_and_what_is_not_there_is_not_found(service: Service) -> None:
    client = service.client("view")
    report = next(
        ds
        for ds in (Dataset.from_json(each) for each in client.search_for_instances(service.study))
        if "Rows" not in ds
    )
    base = f"/studies/{service.study}/series/{report.SeriesInstanceUID}/instances/{report.SOPInstanceUID}"

    with service.http("view") as http:
        assert http.get(f"{base}/rendered").status_code == 406
        assert http.get(base, headers={"Accept": "application/dicom"}).status_code == 200
        assert http.get("/studies/1.2.3").status_code == 404
        assert http.get(f"/studies/{service.study}/series/1.2/metadata").status_code == 404
        assert http.get(f"{base}/bulkdata/..%2f..%2fetc%2fpasswd").status_code == 404
        assert http.get("/studies/..%2f..%2fetc").status_code in (404, 422)
        assert http.get("/studies?limit=x").status_code == 400
        assert http.get("/studies?Nonsense=1").headers["warning"].startswith("299 ")


@pytest.mark.usefixtures("stored")
def test_a_look_at_three_hundred_slices_is_one_event(service: Service) -> None:
    client = service.client("view")
    for path in service.phantom.paths:
        ds = dcmread(path, stop_before_pixels=True)
        client.retrieve_instance_metadata(service.study, ds.SeriesInstanceUID, ds.SOPInstanceUID)

    with reading(service.web.engine) as session:
        asked = (AuditEvent.action == "study viewed", AuditEvent.subject == service.study)
        assert len(session.scalars(select(AuditEvent).where(*asked)).all()) == 1


@pytest.mark.usefixtures("stored")
def test_our_objects_come_by_rest_too_and_are_not_sent_twice(service: Service) -> None:
    outputs = f"{service.address}/api/v1/studies/{service.study}/outputs"
    with reading(service.web.engine) as session:
        row = session.scalars(select(Output).where(Output.group == "sr")).one()

    with service.http("view") as http:
        first = http.get(f"{outputs}/{row.sop_instance_uid}")
        known = {"If-None-Match": first.headers["etag"]}
        again = http.get(f"{outputs}/{row.sop_instance_uid}", headers=known)
        image = http.get(f"{outputs}/{row.sop_instance_uid}/image")
        received = http.get(f"{outputs}/{next(iter(service.files))}")

    assert first.content == (service.web.node.settings.outputs / row.path).read_bytes()
    assert [answer.status_code for answer in (again, image, received)] == [304, 409, 404]


def body(parts: Sequence[tuple[str, bytes]], end: str = "--") -> dict[str, Any]:
    """Return a request of these parts."""
    whole = b"".join(
        b"--xyz\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + content + b"\r\n"
        for kind, content in parts
    )
    kind = 'multipart/related; type="application/dicom"; boundary=xyz'
    return {"content": whole + b"--xyz" + end.encode() + b"\r\n", "headers": {"Content-Type": kind}}


def other_study() -> bytes:
    """Return an object of a study of its own."""
    ds, buffer = ct(1, OTHER), io.BytesIO()
    write(ds, buffer)
    return buffer.getvalue()


def spooled(service: Service) -> list[Path]:
    return sorted(service.web.node.settings.spool.rglob("*.*"))


def test_what_cannot_be_stored_is_named_with_its_reason_and_the_rest_is_stored(service: Service) -> None:
    content = next(iter(service.files.values()))
    parts = [
        ("application/dicom", content),
        ("application/dicom", b"no DICOM at all"),
        ("image/jpeg", content),
        ("application/dicom", content[:200]),
    ]
    with service.http("store") as http:
        answer = http.post("/studies", **body(parts))

    ds = Dataset.from_json(answer.json())
    assert answer.status_code == 202
    assert len(ds.ReferencedSOPSequence) == 1
    assert [item.FailureReason for item in ds.OtherFailuresSequence] == [0xC000] * 3


def test_an_object_of_another_study_is_refused(service: Service) -> None:
    content = next(iter(service.files.values()))
    with service.http("store") as http:
        answer = http.post("/studies/1.2.3", **body([("application/dicom", content)]))

    (failed,) = Dataset.from_json(answer.json()).FailedSOPSequence
    assert (answer.status_code, failed.FailureReason) == (409, 0xA900)
    assert failed.ReferencedSOPInstanceUID == next(iter(service.files))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": b"x", "headers": {"Content-Type": "application/dicom"}}, 415),
        ({"content": b"x", "headers": {"Content-Type": 'multipart/related; type="application/dicom"'}}, 400),
        (body([]), 400),
        (body([("application/dicom", b"x")], end=""), 400),
    ],
)
def test_a_body_that_is_no_list_of_objects_is_refused(
    service: Service, request_: dict[str, Any], status: int
) -> None:
    with service.http("store") as http:
        assert http.post("/studies", **request_).status_code == status


def test_a_full_disk_is_told_as_out_of_resources_and_leaves_nothing(service: Service) -> None:
    full = {"receiver": ReceiverSettings(disk_reject_bytes=2**60)}
    node = service.web.node
    before = spooled(service)
    app_node = type(node)(node.settings.model_copy(update=full), node.engine, node.clock)
    service.web.app.state.node = app_node
    try:
        with service.http("store") as http:
            answer = http.post(
                "/studies", **body([("application/dicom", next(iter(service.files.values())))])
            )
    finally:
        service.web.app.state.node = node

    (failed,) = Dataset.from_json(answer.json()).OtherFailuresSequence
    assert (answer.status_code, failed.FailureReason) == (503, 0xA700)
    assert spooled(service) == before


def test_a_request_that_breaks_off_keeps_what_was_whole_and_no_part(service: Service) -> None:
    content = other_study()
    request = body([("application/dicom", content), ("application/dicom", content)])
    host, port = service.address.removeprefix("http://").split(":")
    lines = (
        "POST /dicomweb/studies HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: Bearer {service.web.token('reader', 'store')}",
        f"Content-Type: {request['headers']['Content-Type']}",
        f"Content-Length: {len(request['content'])}",
    )
    service.clerk.clerk.round()

    with socket.create_connection((host, int(port))) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        connection.sendall(request["content"][: len(content) + 500])
        wait_for(
            lambda: [path for path in spooled(service) if path.suffix == ".dcm"], what="the first object"
        )
    wait_for(lambda: any(path.name == "ended.json" for path in spooled(service)), what="the end")

    assert [path for path in spooled(service) if path.suffix == ".part"] == []
    service.clerk.clerk.round()
    assert OTHER in service.clerk.studies()


def test_an_object_may_be_larger_than_any_other_body(service: Service) -> None:
    ds, buffer = ct(2, OTHER), io.BytesIO()
    ds.add_new(0x00090010, "LO", "TESTS")
    ds.add_new(0x00091010, "OB", bytes(3_000_000))
    write(ds, buffer)

    with service.http("store") as http:
        answer = http.post("/studies", **body([("application/dicom", buffer.getvalue())]))

    assert answer.status_code == 200


def test_the_senders_account_is_its_ae_title(service: Service) -> None:
    with service.http("store") as http:
        http.post("/studies", **body([("application/dicom", other_study())]))
    service.clerk.clerk.round()

    study = service.clerk.studies()[OTHER]
    assert (study.calling_ae_title, study.called_ae_title) == ("READER", "LUNGNODE")
