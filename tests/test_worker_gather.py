import os
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from worker.gather import gather

PICTURE = b"\xff\xd8\xff"  # how a JPEG starts


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    (task,) = gather([tmp_path / "pipe"])

    assert task.problem == f"{tmp_path}/pipe is no file; a pipe or socket is not read."


def test_a_link_to_its_own_folder_is_searched_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")

    assert [task.path for task in gather([tmp_path])] == [tmp_path / "a.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_told_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    (tmp_path / "closed").mkdir(mode=0)

    picture, closed = gather([tmp_path])

    assert (picture.is_picture, closed.path) == (True, tmp_path / "closed")
    assert closed.problem == f"The folder {tmp_path}/closed cannot be read: Permission denied."


def test_files_about_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("DICOMDIR", "Thumbs.db", ".hidden"):
        (tmp_path / name).write_bytes(PICTURE)

    (task,) = gather([tmp_path])

    assert task.problem == f"The folder {tmp_path} holds no files."


def test_a_dicomdir_is_called_by_its_name(tmp_path: Path) -> None:
    """Source: PS3.10 8.6, whose Media Storage SOP Class stands in the File Meta Information alone."""
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID = "DISC"
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)

    (task,) = gather([tmp_path / "DICOMDIR"])

    found = f"{tmp_path}/DICOMDIR is a DICOMDIR"
    assert task.problem == f"{found}, which only lists files; name its folder, {tmp_path}."
