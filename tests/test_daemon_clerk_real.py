"""Real studies through the clerk; skipped where the data is absent."""

import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom import dcmread

from daemon.clerk.duplicates import conflict_reason
from daemon.clerk.header import read_header
from db.models import Disposition, Instance, Quarantined
from lungnode.errors import UnusableError
from tests.spooling import ClerkNode


def send(node: ClerkNode, *paths: Path, name: str = "a1") -> None:
    sender = node.sender(name)
    for path in paths:
        sender.put(lambda target, path=path: shutil.copyfile(path, target))  # type: ignore[misc]
    sender.release()
    node.clerk.round()


def test_a_real_study_is_kept_bit_for_bit_and_completed(clerk_node: ClerkNode, shared_data: Path) -> None:
    paths = sorted((shared_data / "dicom/normal-001").glob("*.dcm"))[:40]

    send(clerk_node, *paths)

    kept = {(clerk_node.settings.archive / row.path).read_bytes() for row in clerk_node.rows(Instance)}
    assert kept == {path.read_bytes() for path in paths}
    assert len(clerk_node.rounds_after(30)) == 1
    assert clerk_node.study().completeness == "quiet: no gaps"


@pytest.mark.parametrize("family", ["CTImage", "P001_0060"])
def test_one_slice_in_every_lossless_syntax_is_one_instance(
    clerk_node: ClerkNode, shared_data: Path, family: str
) -> None:
    paths = sorted((shared_data / "dicom/syntaxes").glob(f"{family}*"))
    uids = Counter(read_header(path).sop_instance_uid for path in paths)
    uid, copies = uids.most_common(1)[0]
    same = [path for path in paths if read_header(path).sop_instance_uid == uid]

    for number, path in enumerate(same):
        send(clerk_node, path, name=f"a{number}")

    (row,) = clerk_node.rows(Instance)
    assert copies >= 7
    assert len(row.note.splitlines()) == len({read_header(path).transfer_syntax_uid for path in same[1:]})
    assert row.disposition == Disposition.ARCHIVED


@pytest.mark.parametrize("syntax", ["JPEG2000TransferSyntax", "JPEGLSLossy", "JPEGProcess2_4"])
def test_a_lossy_copy_under_the_same_uid_is_a_conflict(
    clerk_node: ClerkNode, shared_data: Path, tmp_path: Path, syntax: str
) -> None:
    (lossy,) = (shared_data / "dicom/syntaxes").glob(f"CTImage.dcm_{syntax}*")
    first = dcmread(shared_data / "dicom/syntaxes/CTImage.dcm")
    second = dcmread(lossy)
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
    second.save_as(tmp_path / "lossy.dcm")

    send(clerk_node, shared_data / "dicom/syntaxes/CTImage.dcm")
    send(clerk_node, tmp_path / "lossy.dcm", name="a2")

    conflict = clerk_node.rows(Instance)[1]
    assert conflict.disposition == Disposition.CONFLICT
    assert "differ" in conflict.note


def test_a_real_slice_agrees_with_itself_whatever_names_it_carries(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "dicom/syntaxes/CT1_J2KR"
    renamed = dcmread(path)
    renamed.PatientName = "Somebody^Else"
    renamed.save_as(tmp_path / "renamed.dcm")

    assert conflict_reason(path, tmp_path / "renamed.dcm") == ""


def test_malformed_real_slices_are_quarantined_with_reasons(clerk_node: ClerkNode, shared_data: Path) -> None:
    paths = sorted((shared_data / "dicom/malformed").iterdir())

    send(clerk_node, *paths)

    rows = clerk_node.rows(Quarantined)
    assert len(rows) == len(paths) == 8
    assert all("SOPInstanceUID (0008,0018) is empty." in row.reason for row in rows)
    assert all("StudyInstanceUID (0020,000D) is no UID" in row.reason for row in rows)
    assert clerk_node.rows(Instance) == []


@pytest.mark.parametrize("cut", range(0, 3000, 113))
def test_a_file_cut_short_anywhere_has_a_header_or_is_unusable(
    shared_data: Path, tmp_path: Path, cut: int
) -> None:
    whole = (shared_data / "dicom/covid-P001/P001_0001.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:cut])

    # Anything but an UnusableError would stop the clerk.
    with suppress(UnusableError):
        assert read_header(tmp_path / "cut.dcm").study_instance_uid
