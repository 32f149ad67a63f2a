"""Reading a study's files: order, damage, and files that are away."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from lungnode.errors import UnavailableError, UnusableError
from lungnode.loading import read_gray, read_grays, read_instance
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.pixels import hounsfield, lung_window
from lungnode.series import SliceHeader, slice_headers
from worker.gather import gather


@pytest.fixture
def study(tmp_path: Path) -> PhantomStudy:
    return phantom_study(tmp_path / "phantom", slices=40, size=64)


@pytest.fixture
def headers(study: PhantomStudy) -> list[SliceHeader]:
    return [header for path in study.paths for header in slice_headers(dcmread(path), path)]


def test_slices_come_in_the_order_they_were_asked_for(headers: list[SliceHeader]) -> None:
    asked = headers[::-1]

    found = list(read_grays(asked))

    assert len(found) == len(asked)
    for gray, header in zip(found, asked, strict=True):
        assert isinstance(gray, np.ndarray)
        assert np.array_equal(gray, lung_window(hounsfield(dcmread(header.path))))


def test_a_damaged_slice_is_told_by_name_and_the_others_are_read(headers: list[SliceHeader]) -> None:
    path = headers[2].path
    path.write_bytes(path.read_bytes()[:-1000])

    found = list(read_grays(headers))

    assert [isinstance(gray, UnusableError) for gray in found].count(True) == 1
    assert str(found[2]).startswith(f"{path.name}: ")


def test_a_file_that_is_away_is_not_a_damaged_one(headers: list[SliceHeader]) -> None:
    headers[20].path.unlink()

    with pytest.raises(UnavailableError, match="cannot be read: No such file"):
        list(read_grays(headers))
    with pytest.raises(UnavailableError):
        read_gray(headers[20])


def test_a_file_that_is_no_dicom_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no image" * 100, encoding="utf-8")

    with pytest.raises(UnusableError, match="text cannot be read as DICOM"):
        read_instance(tmp_path / "text", pixels=True)


def test_a_folder_is_gathered_by_study_and_each_other_file_stands_for_itself(
    study: PhantomStudy, tmp_path: Path
) -> None:
    phantom_study(tmp_path / "other", slices=3, seed=1, size=64)
    (tmp_path / "other/notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "other/.hidden").write_text("no image", encoding="utf-8")

    tasks = gather([tmp_path])

    assert [(task.path, task.kind, len(task.headers), bool(task.problem)) for task in tasks] == [
        (tmp_path / "other", "study", 3, False),
        (tmp_path / "phantom", "study", 40, False),
        (tmp_path / "other/notes.txt", "image", 0, True),
    ]
    assert tasks[1].headers[0].study_instance_uid == study.study_instance_uid


def test_a_damaged_header_is_a_problem_of_its_file_alone(study: PhantomStudy) -> None:
    ds = dcmread(study.paths[0])
    ds.SOPInstanceUID = ""
    ds.save_as(study.paths[0])

    tasks = gather([study.paths[0].parent])

    assert [(len(task.headers), bool(task.problem)) for task in tasks] == [(39, False), (0, True)]
    assert "SOPInstanceUID is missing or empty" in tasks[1].problem
