"""Real peers: DCMTK's storescu and echoscu, and pynetdicom, send real images of every kind."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.events import EventHandlerType

from daemon.receiver.dimse import Status
from lungnode.scu.answers import keep_answers
from tests.dicom_wire import CT_IMAGE_STORAGE, VERIFICATION, Instance, read_instance
from tests.receiving import RunningReceiver, digest, digest_of_data_set, running_receiver

RETIRED: Final = frozenset({"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"})
TRANSFER_SYNTAX_NOT_SUPPORTED: Final = 4
# storescu's options that propose a syntax; what has none is sent by the other peers.
PROPOSALS: Final = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
}

pytestmark = pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is absent: apt install dcmtk")


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    with running_receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningReceiver]:
    with running_receiver(tmp_path, processes=1) as running:
        yield running


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def files_by_syntax(folder: Path) -> dict[Path, Instance]:
    return {path: read_instance(path) for path in sorted(folder.iterdir()) if path.is_file()}


def same_values(kept: Path, sent: Path) -> bool:
    """Compare what storescu sent: it drops group lengths and encodes sequences anew, so not its bytes."""
    ours, theirs = dcmread(kept), dcmread(sent)
    return ours == theirs and ours.file_meta.TransferSyntaxUID == theirs.file_meta.TransferSyntaxUID


def sent_over_bare_sockets(receiver: RunningReceiver, instance: Instance) -> int:
    with receiver.connect() as peer:
        results = peer.associate(((1, instance.sop_class_uid, (instance.transfer_syntax_uid,)),))
        return results[1][0] or peer.store(instance, maximum_length=16_384)


def test_every_file_of_the_syntaxes_is_kept_bit_for_bit_or_refused_at_negotiation(
    receiver: RunningReceiver, shared_data: Path
) -> None:
    for path, instance in files_by_syntax(shared_data / "dicom/syntaxes").items():
        before = set(receiver.files())

        result = sent_over_bare_sockets(receiver, instance)

        new = set(receiver.files()) - before
        if instance.transfer_syntax_uid in RETIRED:
            assert (result, new) == (TRANSFER_SYNTAX_NOT_SUPPORTED, set()), path.name
            continue
        (kept,) = new
        assert (result, digest_of_data_set(kept)) == (Status.SUCCESS, digest(instance.data_set)), path.name


def test_a_kept_file_has_the_meta_group_that_pydicom_expects(
    receiver: RunningReceiver, shared_data: Path
) -> None:
    instance = read_instance(shared_data / "dicom/syntaxes/P001_0060_explicit_le.dcm")
    before = set(receiver.files())

    sent_over_bare_sockets(receiver, instance)

    (kept,) = set(receiver.files()) - before
    meta = dcmread(kept, stop_before_pixels=True).file_meta
    encoded_length = len(kept.read_bytes()) - len(instance.data_set) - 144
    assert meta.FileMetaInformationGroupLength == encoded_length
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert instance.sop_class_uid == meta.MediaStorageSOPClassUID
    assert instance.sop_instance_uid == meta.MediaStorageSOPInstanceUID
    assert instance.transfer_syntax_uid == meta.TransferSyntaxUID
    assert meta.ImplementationClassUID.is_valid
    assert str(meta.ImplementationVersionName).startswith("LUNGNODE_")
    assert (meta.SourceApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("TEST", "LUNGNODE")


def test_storescu_sends_what_it_can_propose_and_all_of_it_is_kept(
    receiver: RunningReceiver, shared_data: Path
) -> None:
    instances = files_by_syntax(shared_data / "dicom/syntaxes")
    sent = set()
    for path, instance in instances.items():
        option = PROPOSALS.get(instance.transfer_syntax_uid)
        if option is None:
            continue
        before = set(receiver.files())

        result = run("storescu", option, "-aec", "LUNGNODE", "127.0.0.1", str(receiver.port), str(path))

        if "No SOP Class or Instance UID in file" in result.stderr:
            continue  # DCMTK cannot read a few of these files: nothing was sent
        assert result.returncode == 0, result.stderr
        (kept,) = set(receiver.files()) - before
        assert same_values(kept, path), path.name
        sent.add(instance.transfer_syntax_uid)
    assert len(sent) >= 10


def test_storescu_sends_a_real_study_of_148_slices(fresh: RunningReceiver, shared_data: Path) -> None:
    study = shared_data / "dicom/covid-P001"

    result = run("storescu", "-xs", "+sd", "+r", "-aec", "LUNGNODE", "127.0.0.1", str(fresh.port), str(study))

    assert result.returncode == 0, result.stderr
    fresh.wait_for_log("released: 148 instances")
    sent = {dcmread(path, stop_before_pixels=True).SOPInstanceUID: path for path in study.iterdir()}
    kept = {dcmread(path, stop_before_pixels=True).SOPInstanceUID: path for path in fresh.files()}
    assert kept.keys() == sent.keys()
    assert all(same_values(path, sent[uid]) for uid, path in kept.items())
    (folder,) = fresh.spool.iterdir()
    assert [path.name for path in fresh.files()] == [f"{number:08d}.dcm" for number in range(1, 149)]
    assert '"outcome": "released"' in (folder / "ended.json").read_text()
    assert not fresh.half_files()


def test_malformed_instances_are_kept(receiver: RunningReceiver, shared_data: Path) -> None:
    for path in sorted((shared_data / "dicom/malformed").iterdir()):
        instance = read_instance(path)
        before = set(receiver.files())

        assert sent_over_bare_sockets(receiver, instance) == Status.SUCCESS
        (kept,) = set(receiver.files()) - before
        assert digest_of_data_set(kept) == digest(instance.data_set)


def test_pynetdicom_sends_and_is_answered(receiver: RunningReceiver, shared_data: Path) -> None:
    path = shared_data / "dicom/syntaxes/P001_0060_jpegls_lossless.dcm"
    ds = dcmread(path)
    entity = AE("PYNETDICOM")
    contexts = [
        build_context(CT_IMAGE_STORAGE, [ds.file_meta.TransferSyntaxUID]),
        build_context(VERIFICATION),
    ]
    before = set(receiver.files())

    handlers: list[EventHandlerType] = [(evt.EVT_CONN_OPEN, keep_answers)]
    association = entity.associate(
        "127.0.0.1", receiver.port, contexts, ae_title="LUNGNODE", evt_handlers=handlers
    )
    assert association.is_established
    statuses = [association.send_c_echo().Status, association.send_c_store(path).Status]
    association.release()

    assert statuses == [Status.SUCCESS, Status.SUCCESS]
    assert association.is_released
    (kept,) = set(receiver.files()) - before
    assert dcmread(kept) == ds


def test_echoscu_is_answered(receiver: RunningReceiver) -> None:
    result = run("echoscu", "-v", "-aec", "LUNGNODE", "127.0.0.1", str(receiver.port))

    assert (result.returncode, "Received Echo Response (Success)" in result.stdout + result.stderr) == (
        0,
        True,
    )


def test_a_wrong_called_ae_title_is_what_dcmtk_reports(receiver: RunningReceiver) -> None:
    result = run("echoscu", "-aec", "SOMEBODY", "127.0.0.1", str(receiver.port))

    assert result.returncode != 0
    assert "Result: Rejected Permanent, Source: Service User" in result.stderr
    assert "Reason: Called AE Title Not Recognized" in result.stderr
    receiver.wait_for_log("to SOMEBODY rejected: CALLED_AE_TITLE_NOT_RECOGNIZED")


def test_storescu_is_told_which_presentation_context_it_lacks(
    receiver: RunningReceiver, shared_data: Path
) -> None:
    (path,) = (shared_data / "dicom/syntaxes").glob("*.4.53.dcm")
    entity = AE("PYNETDICOM")
    contexts = [build_context(CT_IMAGE_STORAGE, [UID("1.2.840.10008.1.2.4.53")])]

    association = entity.associate("127.0.0.1", receiver.port, contexts, ae_title="LUNGNODE")

    assert [context.result for context in association.rejected_contexts] == [TRANSFER_SYNTAX_NOT_SUPPORTED]
    assert read_instance(path).transfer_syntax_uid == "1.2.840.10008.1.2.4.53"


def test_no_name_and_no_patient_id_reaches_the_log(receiver: RunningReceiver, shared_data: Path) -> None:
    ds = dcmread(shared_data / "dicom/syntaxes/CTImage.dcm")
    sent_over_bare_sockets(receiver, read_instance(shared_data / "dicom/syntaxes/CTImage.dcm"))

    log = receiver.log_text()

    assert str(ds.PatientName)
    assert str(ds.PatientName) not in log
    assert str(ds.PatientID) not in log
