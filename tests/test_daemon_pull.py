"""Studies fetched from real PACS (DCMTK, Orthanc), and from one that breaks off, refuses and dawdles."""

import json
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, Final

import pytest
from pydicom import dcmread
from pydicom.uid import (
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import evt

from daemon.clerk.spool import scan
from daemon.pull.count import Missing
from daemon.pull.retrieve import Suboperations, retrieving
from daemon.pull.study import Fetched, fetch_missing, fetch_study, find_studies
from daemon.receiver.spool import AssociationOutcome
from lungnode.errors import SettingsError
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.scu.find import StudyMatch
from lungnode.settings import Peer, ReceiverSettings, Settings
from tests.orthanc import Orthanc, running_orthanc
from tests.query_peers import (
    DcmtkPacs,
    ScriptedPacs,
    dcmtk_pacs,
    getting_pacs,
    matches,
    scripted_pacs,
    stored,
)
from tests.receiving import RunningReceiver, digest_of_data_set, running_receiver, wait_until
from tests.spooling import STUDY, ct, write

SLICES: Final = 6
KINDS: Final = ["get", "move"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("study"), SLICES, False, 2)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    with running_receiver(tmp_path_factory.mktemp("receiver"), processes=1) as running:
        yield running


@pytest.fixture(scope="module")
def dcmtk(
    tmp_path_factory: pytest.TempPathFactory, study: PhantomStudy, receiver: RunningReceiver
) -> Iterator[DcmtkPacs]:
    with dcmtk_pacs(tmp_path_factory.mktemp("dcmtk"), {"LUNGNODE": receiver.port}) as pacs:
        pacs.keep(*study.paths)
        yield pacs


@pytest.fixture(scope="module")
def orthanc(
    tmp_path_factory: pytest.TempPathFactory, study: PhantomStudy, receiver: RunningReceiver
) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), {"LUNGNODE": receiver.port}) as pacs:
        pacs.keep(*study.paths, _capture_of(study, tmp_path_factory.mktemp("capture")))
        yield pacs


def _capture_of(study: PhantomStudy, folder: Path) -> Path:
    """Somebody's Secondary Capture in a series of its own: no CT."""
    first = dcmread(study.paths[0])
    capture = ct(99, study.study_instance_uid, PatientID=first.PatientID, SeriesInstanceUID="1.2.9")
    capture.SOPClassUID, capture.Modality = SecondaryCaptureImageStorage, "OT"
    write(capture, folder / "capture.dcm")
    return folder / "capture.dcm"


def peer_of(pacs: DcmtkPacs | Orthanc, retrieve: str, **values: Any) -> Peer:
    named = isinstance(pacs, DcmtkPacs)
    told = {
        "name": "pacs",
        "ae_title": "PACS" if named else "ORTHANC",
        "host": "127.0.0.1",
        "port": pacs.port if isinstance(pacs, DcmtkPacs) else pacs.dicom_port,
        "query": "study_root",
        "retrieve": retrieve,
    }
    return Peer(**told | values)


def fetched(peer: Peer, data: Path, study: PhantomStudy) -> Fetched:
    settings = Settings(data=data)
    (match,) = find_studies(peer, settings, {"StudyInstanceUID": study.study_instance_uid})
    return fetch_study(peer, settings, match, lambda _: None)


def digests(files: Iterable[Path]) -> set[str]:
    return {digest_of_data_set(path) for path in files}


def new_files(receiver: RunningReceiver, before: set[Path], count: int) -> list[Path]:
    wait_until(lambda: len(set(receiver.files()) - before) >= count, "the PACS sent nothing")
    return sorted(set(receiver.files()) - before)


@pytest.mark.parametrize("model", ["study_root", "patient_root"])
def test_what_a_c_get_brings_lies_in_the_spool_as_if_the_peer_had_sent_it(
    dcmtk: DcmtkPacs, study: PhantomStudy, tmp_path: Path, model: str
) -> None:
    peer, settings = peer_of(dcmtk, "get", query=model), Settings(data=tmp_path)
    patient_id = str(dcmread(study.paths[0]).PatientID)

    result = fetch_study(peer, settings, StudyMatch(study.study_instance_uid, patient_id), lambda _: None)

    assert (result.is_whole, result.series, result.count) == (True, 1, Suboperations(completed=SLICES))
    (folder,) = (tmp_path / "spool").iterdir()
    assert digests(folder.glob("*.dcm")) == digests(study.paths)
    told = json.loads((folder / "association.json").read_text())
    assert (told["calling_ae_title"], told["called_ae_title"]) == ("PACS", "LUNGNODE")
    assert told["address"] == "127.0.0.1"
    assert json.loads((folder / "ended.json").read_text())["outcome"] == AssociationOutcome.RELEASED
    meta = dcmread(folder / "00000001.dcm").file_meta
    assert (meta.SourceApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("PACS", "LUNGNODE")


@pytest.mark.parametrize("model", ["study_root", "patient_root"])
def test_a_c_move_brings_a_study_to_our_receiver(
    dcmtk: DcmtkPacs, study: PhantomStudy, receiver: RunningReceiver, tmp_path: Path, model: str
) -> None:
    peer, before = peer_of(dcmtk, "move", query=model), set(receiver.files())
    patient_id = str(dcmread(study.paths[0]).PatientID)
    match = StudyMatch(study.study_instance_uid, patient_id)

    result = fetch_study(peer, Settings(data=tmp_path), match, lambda _: None)

    assert (result.is_whole, result.count.completed) == (True, SLICES)
    assert digests(new_files(receiver, before, SLICES)) == digests(study.paths)
    assert not (tmp_path / "spool").exists()


def test_orthanc_sends_the_ct_series_alone_by_c_get(
    orthanc: Orthanc, study: PhantomStudy, tmp_path: Path
) -> None:
    result = fetched(peer_of(orthanc, "get"), tmp_path, study)

    assert (result.is_whole, result.series, result.count.completed) == (True, 1, SLICES)
    assert digests((tmp_path / "spool").glob("*/*.dcm")) == digests(study.paths)


def test_orthanc_sends_the_ct_series_alone_by_c_move(
    orthanc: Orthanc, study: PhantomStudy, receiver: RunningReceiver, tmp_path: Path
) -> None:
    before = set(receiver.files())

    result = fetched(peer_of(orthanc, "move"), tmp_path, study)

    assert (result.is_whole, result.series, result.count.completed) == (True, 1, SLICES)
    assert digests(new_files(receiver, before, SLICES)) == digests(study.paths)


def test_what_is_compressed_stays_compressed(orthanc: Orthanc, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "dicom/syntaxes/P001_0060_jpegls_lossless.dcm"
    command = ("storescu", "-xt", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.dicom_port), str(source))
    subprocess.run(command, check=True, timeout=60)
    match = StudyMatch(str(dcmread(source).StudyInstanceUID))

    fetch_study(peer_of(orthanc, "get"), Settings(data=tmp_path), match, lambda _: None)

    (path,) = (tmp_path / "spool").glob("*/*.dcm")
    assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLSLossless
    assert dcmread(path).PixelData == dcmread(source).PixelData


@pytest.mark.parametrize("program", ["dcmtk", "orthanc"])
def test_single_instances_are_fetched_by_their_uids(
    request: pytest.FixtureRequest, study: PhantomStudy, tmp_path: Path, program: str
) -> None:
    pacs: DcmtkPacs | Orthanc = request.getfixturevalue(program)
    wanted = study.paths[2:5]
    series = str(dcmread(wanted[0]).SeriesInstanceUID)
    missing = [Missing(series, 3, tuple(str(dcmread(path).SOPInstanceUID) for path in wanted))]

    result = fetch_missing(
        peer_of(pacs, "get"), Settings(data=tmp_path), StudyMatch(study.study_instance_uid), missing
    )

    assert result.count.completed == 3
    assert digests((tmp_path / "spool").glob("*/*.dcm")) == digests(wanted)


def test_a_full_disk_refuses_what_a_c_get_brings(
    dcmtk: DcmtkPacs, study: PhantomStudy, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path, receiver=ReceiverSettings(disk_reject_bytes=1 << 62))

    result = fetch_study(
        peer_of(dcmtk, "get"), settings, StudyMatch(study.study_instance_uid), lambda _: None
    )

    assert not result.is_whole
    assert list((tmp_path / "spool").glob("*/*.dcm")) == []


def test_a_pacs_that_does_not_know_us_is_told_with_what_to_do(
    dcmtk: DcmtkPacs, study: PhantomStudy, tmp_path: Path
) -> None:
    result = fetched(peer_of(dcmtk, "move", calling_ae_title="STRANGER"), tmp_path, study)

    assert not result.is_whole
    assert "0xA801" in result.reason
    assert "enter our AE title, address and port there" in result.reason


def test_a_peer_that_may_not_be_fetched_from_is_not_called(tmp_path: Path) -> None:
    peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=1, query="study_root")

    with (
        pytest.raises(SettingsError, match='set its retrieve = "move" or "get"'),
        retrieving(peer, Settings(data=tmp_path)),
    ):
        pass


def fetch_from(pacs: ScriptedPacs, data: Path, **values: Any) -> tuple[Fetched, list[Suboperations]]:
    steps: list[Suboperations] = []
    peer = pacs.peer(**{"retrieve": "get", "retrieve_timeout_s": 30.0} | values)
    return fetch_study(peer, Settings(data=data), StudyMatch(STUDY), steps.append), steps


def test_progress_and_counts_are_the_peers(tmp_path: Path) -> None:
    def handler(_: evt.Event) -> Iterator[Any]:
        yield 3
        yield from ((0xFF00, stored(number)) for number in (1, 2, 3))

    with getting_pacs(handler) as pacs:
        result, steps = fetch_from(pacs, tmp_path)

    assert steps == [Suboperations(completed=n, remaining=3 - n) for n in (1, 2, 3)]
    assert result.count == Suboperations(completed=3)


def test_a_success_stands_for_a_file_of_an_open_association(tmp_path: Path) -> None:
    seen: list[tuple[int, list[bool]]] = []

    def handler(_: evt.Event) -> Iterator[Any]:
        yield 3
        for number in (1, 2, 3):
            yield 0xFF00, stored(number)  # and goes on when its C-STORE-RSP was received
            open_now = [each.is_open for each in scan(tmp_path / "spool", datetime.now(UTC))]
            seen.append((len(list((tmp_path / "spool").glob("*/*.dcm"))), open_now))

    with getting_pacs(handler) as pacs:
        fetch_from(pacs, tmp_path)

    assert seen == [(1, [True]), (2, [True]), (3, [True])]
    (association,) = scan(tmp_path / "spool", datetime.now(UTC))
    assert (association.outcome, association.facts.calling_ae_title) == ("released", "PACS")


def test_every_instance_reaches_the_asker_though_the_association_thread_looks_first(tmp_path: Path) -> None:
    def handler(_: evt.Event) -> Iterator[Any]:
        yield 20
        yield from ((0xFF00, stored(number)) for number in range(20))

    with getting_pacs(handler) as pacs:
        peer = pacs.peer(retrieve="get", retrieve_timeout_s=30.0)
        with retrieving(peer, Settings(data=tmp_path)) as retriever:
            # What pynetdicom's own thread does where it missed that it is paused: see tests of the courier.
            look_first = lambda event: event.assoc.dimse.get_msg(block=False)  # noqa: E731
            retriever._association.bind(evt.EVT_FSM_TRANSITION, look_first)
            keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"}
            count = retriever.fetch("SERIES", keys, lambda _: None)

    assert count == Suboperations(completed=20)
    assert len(list((tmp_path / "spool").glob("*/*.dcm"))) == 20


def test_a_partial_failure_is_no_whole_study(tmp_path: Path) -> None:
    def handler(_: evt.Event) -> Iterator[Any]:
        yield 2
        yield 0xFF00, stored(1)
        yield 0xFF00, stored(2, SOPClassUID="1.2.3.4")  # no context for it: the peer cannot send it

    with getting_pacs(handler) as pacs:
        result, _ = fetch_from(pacs, tmp_path)

    assert (result.is_whole, result.reason) == (False, "")
    assert (result.count.completed, result.count.failed) == (1, 1)


@pytest.mark.parametrize("status", [0xA701, 0xA702, 0xA900, 0xC001, 0x0124])
def test_a_refusal_is_a_sentence(tmp_path: Path, status: int) -> None:
    def handler(_: evt.Event) -> Iterator[Any]:
        yield 1
        yield status, None

    with getting_pacs(handler) as pacs:
        result, _ = fetch_from(pacs, tmp_path)

    assert f"Peer PACS (PACS at 127.0.0.1:{pacs.port}) answered 0x{status:04X}" in result.reason


def test_a_peer_that_breaks_off_leaves_what_it_sent(tmp_path: Path) -> None:
    def handler(event: evt.Event) -> Iterator[Any]:
        yield 3
        yield 0xFF00, stored(1)
        event.assoc.abort()
        yield 0xFF00, stored(2)

    with getting_pacs(handler) as pacs:
        result, _ = fetch_from(pacs, tmp_path)

    assert "hung up" in result.reason
    (folder,) = (tmp_path / "spool").iterdir()
    assert [dcmread(path).InstanceNumber for path in folder.glob("*.dcm")] == [1]
    assert json.loads((folder / "ended.json").read_text())["outcome"] == AssociationOutcome.LOST


@pytest.mark.parametrize("retrieve", KINDS)
def test_a_silent_peer_costs_its_time_limit(tmp_path: Path, retrieve: str) -> None:
    over = Event()

    def handler(_: evt.Event) -> Iterator[Any]:
        over.wait(30)
        yield 0

    with getting_pacs(handler) as pacs:
        result, _ = fetch_from(pacs, tmp_path, retrieve=retrieve, retrieve_timeout_s=0.5)
        over.set()

    assert "did not send in time" in result.reason
    assert not (tmp_path / "spool").exists()


def test_a_peer_that_takes_us_for_no_storage_scp_fails_and_leaves_nothing(tmp_path: Path) -> None:
    def handler(_: evt.Event) -> Iterator[Any]:
        yield 1
        yield 0xFF00, stored(1)

    with getting_pacs(handler, sends=False) as pacs:
        result, _ = fetch_from(pacs, tmp_path)

    assert not result.is_whole
    assert not (tmp_path / "spool").exists()


def test_a_peer_that_offers_no_c_get_is_told(tmp_path: Path) -> None:
    with getting_pacs(lambda _: iter(()), model="patient_root") as pacs:
        result, _ = fetch_from(pacs, tmp_path)

    assert result.reason.endswith("offers no C-GET.")


def test_a_study_without_ct_is_told(tmp_path: Path) -> None:
    told = matches({"SeriesInstanceUID": "1.2", "Modality": "MR"})

    with scripted_pacs(lambda _: told) as pacs:
        result, _ = fetch_from(pacs, tmp_path)

    assert result.reason.endswith("has no CT series of this study.")
