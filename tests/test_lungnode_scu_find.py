"""Questions to real PACS (DCMTK, Orthanc), and to one that refuses, lies and dawdles."""

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made at import

from lungnode.errors import SettingsError, UnavailableError, UnusableError
from lungnode.phantom import Patient, PhantomStudy, phantom_study
from lungnode.scu import find
from lungnode.scu.association import abort_all
from lungnode.scu.find import InstanceMatch, SeriesMatch, StudyMatch, querying
from lungnode.settings import Peer
from tests.couriers import accept_association, hostile
from tests.nodes import wait_for
from tests.orthanc import Orthanc, running_orthanc
from tests.query_peers import DcmtkPacs, dcmtk_pacs, matches, scripted_pacs

STUDY = "1.2.840.99999.1"
SERIES = f"{STUDY}.1"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    patient = Patient(patient_id="P-1")
    return phantom_study(tmp_path_factory.mktemp("study"), 5, False, 1, patient=patient)


@pytest.fixture(scope="module")
def dcmtk(tmp_path_factory: pytest.TempPathFactory, study: PhantomStudy) -> Iterator[DcmtkPacs]:
    with dcmtk_pacs(tmp_path_factory.mktemp("dcmtk")) as pacs:
        pacs.keep(*study.paths)
        yield pacs


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, study: PhantomStudy) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as pacs:
        pacs.keep(*study.paths)
        yield pacs


def of_orthanc(orthanc: Orthanc, **values: Any) -> Peer:
    return Peer(name="ORTHANC", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port, **values)


def uids(study: PhantomStudy) -> set[str]:
    return {str(dcmread(path).SOPInstanceUID) for path in study.paths}


def asked(peer: Peer, **keys: str) -> list[StudyMatch]:
    with querying(peer, "LUNGNODE") as query:
        return query.studies(keys)


@pytest.mark.parametrize("model", ["study_root", "patient_root"])
def test_orthanc_tells_studies_series_instances_and_their_numbers(
    orthanc: Orthanc, study: PhantomStudy, model: str
) -> None:
    with querying(of_orthanc(orthanc, query=model), "LUNGNODE") as query:
        (found,) = query.studies({"StudyInstanceUID": study.study_instance_uid, "PatientID": "P-1"})
        (series,) = query.series(study.study_instance_uid, "P-1")
        instances = query.instances(study.study_instance_uid, series.series_instance_uid, "P-1")

    assert (found.patient_id, found.accession_number, found.modalities) == ("P-1", "PH1", ("CT",))
    assert (found.instances, series.modality, series.instances) == (5, "CT", 5)
    assert {each.sop_instance_uid for each in instances} == uids(study)
    assert {each.sop_class_uid for each in instances} == {"1.2.840.10008.5.1.4.1.1.2"}


@pytest.mark.parametrize("model", ["study_root", "patient_root"])
def test_dcmtk_tells_instances_but_no_numbers(dcmtk: DcmtkPacs, study: PhantomStudy, model: str) -> None:
    with querying(dcmtk.peer(query=model), "LUNGNODE") as query:
        (found,) = query.studies({"StudyInstanceUID": study.study_instance_uid, "PatientID": "P-1"})
        (series,) = query.series(study.study_instance_uid, "P-1")
        instances = query.instances(study.study_instance_uid, series.series_instance_uid, "P-1")

    assert (found.accession_number, found.instances) == ("PH1", None)
    assert (series.modality, series.instances) == ("CT", None)
    assert {each.sop_instance_uid for each in instances} == uids(study)


def test_studies_are_found_by_accession_number_patient_and_date(
    orthanc: Orthanc, study: PhantomStudy
) -> None:
    peer, uid = of_orthanc(orthanc, query="study_root"), study.study_instance_uid

    assert [each.study_instance_uid for each in asked(peer, AccessionNumber="PH1")] == [uid]
    assert [each.study_instance_uid for each in asked(peer, PatientID="P-*", StudyDate="20000101-")] == [uid]
    assert asked(peer, AccessionNumber="PH2") == []


def test_letters_beyond_ascii_are_asked_for_in_unicode() -> None:
    with scripted_pacs(lambda _: matches()) as pacs:
        asked(pacs.peer(), PatientID="Ä-1")

    (identifier,) = pacs.asked
    assert (identifier.SpecificCharacterSet, identifier.PatientID) == ("ISO_IR 192", "Ä-1")


def test_a_peer_that_may_not_be_asked_is_not_called() -> None:
    peer = Peer(name="PACS", ae_title="PACS", host="127.0.0.1", port=1)

    with pytest.raises(SettingsError, match=r'Peer PACS .* set its query = "study_root"'):
        asked(peer)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0xA700, UnavailableError),
        (0xA900, UnusableError),
        (0xC001, UnavailableError),
        (0xFE00, UnavailableError),
        (0x0122, UnusableError),
    ],
)
def test_a_refusal_names_the_peer_and_its_status(status: int, kind: type[Exception]) -> None:
    with (
        scripted_pacs(lambda _: [(status, None)]) as pacs,
        pytest.raises(kind, match=f"Peer PACS .* answered 0x{status:04X} to a C-FIND"),
    ):
        asked(pacs.peer())


def test_a_peer_that_offers_no_query_is_unusable() -> None:
    with (
        scripted_pacs(lambda _: [], Verification) as pacs,
        pytest.raises(UnusableError, match="accepts none of: Study Root Query/Retrieve"),
    ):
        asked(pacs.peer())


def test_a_silent_peer_costs_its_time_limit_once() -> None:
    over = Event()

    def silent(_: Dataset) -> list[Any]:
        over.wait(30)
        return []

    with scripted_pacs(silent) as pacs:
        with pytest.raises(UnavailableError, match="gave no answer to a C-FIND in time"):
            asked(pacs.peer(timeout_s=3.0))
        over.set()


def test_a_peer_without_end_of_answers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MOST_MATCHES", 10)  # so that the test need not receive 20,000
    endless = matches(*({"StudyInstanceUID": f"{STUDY}.{number}"} for number in range(50)))

    with (
        scripted_pacs(lambda _: endless) as pacs,
        pytest.raises(UnusableError, match="has more than 10 matches"),
    ):
        asked(pacs.peer())


@pytest.mark.parametrize("number", ["many", "-1", "1.5"])
def test_a_number_that_is_none_is_not_believed_and_not_quoted(number: str) -> None:
    answer = Dataset()
    answer.StudyInstanceUID = STUDY
    answer.add(DataElement("NumberOfStudyRelatedInstances", "LO", number))  # pydicom writes no such IS

    with (
        scripted_pacs(lambda _: [(0xFF00, answer), (0x0000, None)]) as pacs,
        pytest.raises(UnusableError, match=r"NumberOfStudyRelatedInstances is (no number|-1)"),
    ):
        asked(pacs.peer(), StudyInstanceUID=STUDY)


def test_answers_about_another_study_are_left_out() -> None:
    told = ({"StudyInstanceUID": STUDY}, {"StudyInstanceUID": f"{STUDY}.7"}, {"PatientID": "4711"})

    with scripted_pacs(lambda _: matches(*told)) as pacs:
        found = asked(pacs.peer(), StudyInstanceUID=STUDY)

    assert [each.study_instance_uid for each in found] == [STUDY, ""]


def test_questions_follow_each_other_over_one_association() -> None:
    def script(identifier: Dataset) -> list[Any]:
        if identifier.QueryRetrieveLevel == "SERIES":
            return matches({"SeriesInstanceUID": SERIES, "Modality": "CT"})
        return matches({"SOPInstanceUID": f"{SERIES}.1"}, {"SOPInstanceUID": f"{SERIES}.2"})

    with scripted_pacs(script) as pacs, querying(pacs.peer(), "LUNGNODE") as query:
        assert query.series(STUDY) == [SeriesMatch(SERIES, "CT")]
        assert query.instances(STUDY, SERIES) == [InstanceMatch(f"{SERIES}.{n}") for n in (1, 2)]

    assert [each.QueryRetrieveLevel for each in pacs.asked] == ["SERIES", "IMAGE"]
    assert "PatientID" not in pacs.asked[0]


def command_set(field: int, status: int) -> bytes:
    """A P-DATA-TF with a command set that announces no data set. Source: PS3.7 E.1, PS3.8 9.3.5."""
    values = [(0x0100, field), (0x0120, 1), (0x0110, 1), (0x0800, 0x0101), (0x0900, status)]
    elements = b"".join(struct.pack("<HHIH", 0, element, 2, value) for element, value in sorted(values))
    group = struct.pack("<HHII", 0, 0, 4, len(elements)) + elements
    return struct.pack(">BxIIBB", 4, len(group) + 6, len(group) + 2, 1, 3) + group


# pynetdicom's own thread may stumble over what is no DICOM; the question ends all the same.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        struct.pack(">BxI", 4, 0xFFFFFFFF),  # a PDU of 4 GiB
        struct.pack(">BxI4x", 7, 4),  # A-ABORT
        struct.pack(">BxI4x", 5, 4),  # A-RELEASE-RQ
        command_set(0x8020, 0x1234),  # C-FIND-RSP with a status that there is not
        command_set(0x0030, 0),  # C-ECHO-RQ
    ],
    ids=["no DICOM", "endless", "abort", "release", "unknown status", "request"],
)
def test_a_peer_that_answers_nonsense_costs_its_time_limit_at_most(answer: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        accept_association(connection, ImplicitVRLittleEndian)
        take_question(connection)
        connection.sendall(answer)

    with hostile(talk) as port, pytest.raises(UnavailableError, match="Peer PACS"):
        asked(pacs_at(port, timeout_s=1.0))


def take_question(connection: socket.socket) -> None:
    """Read PDUs to the one that ends the identifier. Source: PS3.8 9.3.5, E.2."""
    control = 0
    while control != 0b10:  # of a data set, the last fragment
        (length,) = struct.unpack(">2xL", connection.recv(6, socket.MSG_WAITALL))
        control = connection.recv(length, socket.MSG_WAITALL)[5]


def pacs_at(port: int, timeout_s: float) -> Peer:
    return Peer(
        name="PACS", ae_title="PACS", host="127.0.0.1", port=port, query="study_root", timeout_s=timeout_s
    )


def test_a_process_that_stops_waits_for_no_peer_that_is_frozen() -> None:
    is_asked = Event()

    def freeze(connection: socket.socket) -> None:
        accept_association(connection, ImplicitVRLittleEndian)
        take_question(connection)  # pynetdicom's own thread dies of one that is sent after an abort
        is_asked.set()

    with hostile(freeze) as port, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asked, pacs_at(port, timeout_s=120.0))
        is_asked.wait(30)
        wait_for(lambda: abort_all() or waiting.done(), what="the end of the question")  # type: ignore[func-returns-value]

    assert isinstance(waiting.exception(), UnavailableError)
