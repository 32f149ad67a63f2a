"""The compressed cache: what it holds, what it costs, and that a kill costs only the studies under way."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from lungnode.errors import UnavailableError
from lungnode.loading import read_gray
from lungnode.phantom import PhantomStudy, phantom_study
from lungnode.series import slice_headers
from tests.ct_images import enhanced
from tests.nodes import children, wait_for
from trainer.cache import DONE_FILE, Cache, CachedStudy, StudyFiles
from trainer.cache_build import build_cache, measure_cache

SLICES = 24
# What the command line would run: many studies of the same files, so that a kill finds it in the middle.
BUILD = """
import sys
from pathlib import Path
from trainer.cache import Cache, StudyFiles
from trainer.cache_build import build_cache

if __name__ == "__main__":
    folder, cache, count = sys.argv[1:]
    paths = tuple(sorted(Path(folder).glob("*.dcm")))
    studies = [StudyFiles(f"1.2.{number}", 1, paths, "ab") for number in range(int(count))]
    build_cache(studies, Cache(Path(cache), 75), 2)
"""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> PhantomStudy:
    return phantom_study(tmp_path_factory.mktemp("phantom"), slices=SLICES, size=128)


@pytest.fixture
def files(phantom: PhantomStudy) -> StudyFiles:
    return StudyFiles("1.2.3", 1, phantom.paths, "ab")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 75)


def built(cache: Cache, *studies: StudyFiles) -> list[CachedStudy]:
    found = [each.study for each in build_cache(studies, cache, 1)]
    assert all(found)
    return [study for study in found if study]


def content(cache: Cache) -> dict[str, bytes]:
    return {str(p.relative_to(cache.folder)): p.read_bytes() for p in cache.folder.rglob("*") if p.is_file()}


def test_the_lung_slices_are_kept_whole_as_gray_jpeg(
    cache: Cache, files: StudyFiles, phantom: PhantomStudy
) -> None:
    (study,) = built(cache, files)

    assert len(study.slices) == phantom.last - phantom.first + 1
    for kept, path in zip(study.slices, phantom.paths[phantom.first :], strict=False):
        picture = Image.open(cache.entry(files) / kept.name)
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "L", (128, 128))
        original = read_gray(slice_headers(dcmread(path), path)[0])
        # What quality 75 costs: Pillow's own figures for the same array.
        encoded = BytesIO()
        Image.fromarray(original).save(encoded, "JPEG", quality=75)
        assert np.array_equal(np.asarray(picture), np.asarray(Image.open(encoded)))
    assert study.attributes["manufacturer"] == "LUNGNODE"


def test_without_compression_a_slice_is_what_a_worker_sees(
    tmp_path: Path, files: StudyFiles, phantom: PhantomStudy
) -> None:
    cache = Cache(tmp_path, None)
    (study,) = built(cache, files)

    path = phantom.paths[phantom.first]
    kept = np.asarray(Image.open(cache.entry(files) / study.slices[0].name))
    assert np.array_equal(kept, read_gray(slice_headers(dcmread(path), path)[0]))


def test_the_sizes_are_those_of_the_files(cache: Cache, files: StudyFiles, phantom: PhantomStudy) -> None:
    results = build_cache([files], cache, 1)

    figures = measure_cache(results)
    lung = phantom.paths[phantom.first : phantom.last + 1]
    assert figures.received == sum(path.stat().st_size for path in phantom.paths)
    assert figures.received_slices == sum(path.stat().st_size for path in lung)
    assert figures.stored_pixels == 2 * 128 * 128 * len(lung)
    assert figures.cached == sum(path.stat().st_size for path in cache.folder.rglob("*.jpg"))
    assert f"{figures.slices} lung slices of 1 studies (0 were there)" in figures.sentence


def test_frames_of_an_enhanced_image_are_slices_like_others(
    cache: Cache, files: StudyFiles, phantom: PhantomStudy, tmp_path: Path
) -> None:
    path = tmp_path / "frames.dcm"
    enhanced([dcmread(path) for path in phantom.paths]).save_as(path, enforce_file_format=True)

    one, other = built(cache, files, StudyFiles("1.2.4", 1, (path,), "cd"))

    assert [kept.sha256 for kept in one.slices] == [kept.sha256 for kept in other.slices]


def test_a_second_build_does_nothing_again(cache: Cache, files: StudyFiles) -> None:
    built(cache, files)
    before = {path: path.stat().st_mtime_ns for path in cache.folder.rglob("*")}

    (again,) = build_cache([files], cache, 2)

    assert again.reused
    assert {path: path.stat().st_mtime_ns for path in cache.folder.rglob("*")} == before


def test_another_revision_quality_or_content_is_built_anew(cache: Cache, files: StudyFiles) -> None:
    built(cache, files)

    others = [replace(files, revision=2), replace(files, digest="received again")]
    found = [*build_cache(others, cache, 1), *build_cache([files], replace(cache, quality=30), 1)]

    assert [each.reused for each in found] == [False] * 3
    sizes = [each.study.size for each in found if each.study]
    assert sizes[2] < sizes[0] == sizes[1]


@pytest.mark.parametrize("damage", ["slice", "marker", "no marker"])
def test_an_entry_that_is_not_whole_is_built_again(cache: Cache, files: StudyFiles, damage: str) -> None:
    built(cache, files)
    before = content(cache)
    entry = cache.entry(files)
    if damage == "slice":
        (entry / "0002.jpg").write_bytes(bytes((entry / "0002.jpg").stat().st_size))
    elif damage == "marker":
        (entry / DONE_FILE).write_text('{"version": 1}')
    else:
        (entry / DONE_FILE).unlink()

    (again,) = build_cache([files], cache, 1)

    assert not again.reused
    assert content(cache) == before


def test_a_study_that_cannot_be_used_is_told_and_the_others_are_built(
    cache: Cache, files: StudyFiles, tmp_path: Path
) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM")
    damaged = StudyFiles("1.2.4", 1, (tmp_path / "text.dcm",), "cd")
    away = StudyFiles("1.2.5", 1, (tmp_path / "away.dcm",), "ef")
    short = StudyFiles("1.2.6", 1, files.paths[:3], "gh")

    found = build_cache([damaged, files, away, short], cache, 2)

    reasons = [each.reason for each in found]
    assert "text.dcm cannot be read as DICOM" in reasons[0]
    assert (reasons[1], found[1].study is None) == ("", False)
    assert reasons[2].endswith("away.dcm cannot be read: No such file or directory.")
    assert "has 3 slices" in reasons[3]
    assert {path.name for path in cache.folder.iterdir()} == {"1.2.3"}


def test_a_head_is_left_out(cache: Cache, shared_data: Path) -> None:
    head = StudyFiles("1.2.4", 1, tuple(sorted((shared_data / "dicom/head-ct").rglob("*.dcm"))), "cd")

    (found,) = build_cache([head], cache, 1)

    assert found.study is None
    assert found.reason


def test_slices_that_cannot_be_decoded_are_told_and_the_rest_is_kept(
    cache: Cache, files: StudyFiles, phantom: PhantomStudy, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(phantom.paths[phantom.first + 2].read_bytes()[:-2000])
    paths = tuple(damaged if n == phantom.first + 2 else path for n, path in enumerate(phantom.paths))

    whole, lacking = built(cache, files, StudyFiles("1.2.4", 1, paths, "cd"))

    assert len(lacking.slices) == len(whole.slices) - 1
    assert len(lacking.failures) == 1
    assert "damaged.dcm" in lacking.failures[0]


def test_a_cache_that_cannot_be_written_is_told(files: StudyFiles, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UnavailableError, match="cannot be written: Not a directory"):
        build_cache([files], Cache(tmp_path / "file", 75), 1)


def test_what_a_killed_build_left_is_cleared(cache: Cache, files: StudyFiles) -> None:
    entry = cache.entry(files)
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    left = entry.with_name(f".{entry.name}.{os.uname().nodename}.{int(gone.stdout)}.part")
    left.mkdir(parents=True)
    (left / "0001.jpg").write_bytes(b"half")

    built(cache, files)

    assert [path.name for path in entry.parent.iterdir()] == [entry.name]


@pytest.mark.parametrize("done", [1, 4])
def test_a_build_that_is_killed_goes_on_where_it_was(phantom: PhantomStudy, cache: Cache, done: int) -> None:
    count = 12
    with _building(phantom.paths[0].parent, cache.folder, count) as build:
        wait_for(lambda: len(_done(cache)) >= done, what=f"{done} studies in the cache")
        helpers = list(children(build.pid))
        build.send_signal(signal.SIGKILL)
        build.wait()

    wait_for(lambda: not any(_lives(pid) for pid in helpers), what="the end of its processes")
    before = _done(cache)
    studies = [StudyFiles(f"1.2.{number}", 1, phantom.paths, "ab") for number in range(count)]
    found = build_cache(studies, cache, 1)

    assert sum(each.reused for each in found) == len(before)
    assert len({tuple(kept.sha256 for kept in each.study.slices) for each in found if each.study}) == 1
    assert len(_done(cache)) == count
    assert not list(cache.folder.rglob("*.part"))


class _building:  # noqa: N801 - reads as a block
    """A build in a process of its own."""

    def __init__(self, folder: Path, cache: Path, count: int) -> None:
        self._arguments = (str(folder), str(cache), str(count))

    def __enter__(self) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen([sys.executable, "-c", BUILD, *self._arguments])
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _done(cache: Cache) -> list[Path]:
    return list(cache.folder.rglob(DONE_FILE))


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
