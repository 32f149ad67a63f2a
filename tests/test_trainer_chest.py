"""A training sees the slices that a worker analyses."""

from pathlib import Path

from lungnode.loading import read_grays, read_images
from lungnode.phantom import phantom_study
from lungnode.series import SliceHeader
from tests.bench import OneProbability
from trainer.cache import Cache, StudyFiles
from trainer.cache_build import build_cache
from trainer.chest import lung_stack
from worker.analysis import analyse
from worker.conduct import Conduct


def analysed(headers: tuple[SliceHeader, ...]) -> list[str]:
    finding, _ = analyse(headers, read_grays, OneProbability(), Conduct(lambda: 0.0))
    return [each.sop_instance_uid for each in finding.slices]


def test_the_slices_of_a_training_are_those_that_a_worker_reports(tmp_path: Path) -> None:
    # Two series of one study: the thinner one is chosen, whatever the order of the files.
    thick = phantom_study(tmp_path / "thick", slices=12, size=128)
    thin = phantom_study(tmp_path / "thin", slices=40, size=128)
    images = read_images([*thick.paths, *thin.paths])

    trained = lung_stack(images).slices

    assert [header.sop_instance_uid for header in trained] == analysed(images.headers)
    assert {header.series_instance_uid for header in trained} == {thin.series_instance_uid}


def test_a_real_study_takes_less_than_the_papers_fifth(shared_data: Path, tmp_path: Path) -> None:
    paths = tuple(sorted((shared_data / "dicom/covid-P001").glob("*.dcm")))

    (built,) = build_cache([StudyFiles("1.2.3", 1, paths, "ab")], Cache(tmp_path, 75), 1)

    assert built.study is not None
    assert built.study.attributes == {
        "sex": "M", "age": "30-39", "manufacturer": "SIEMENS", "slice_thickness_mm": "2"
    }  # fmt: skip
    # Source: the paper, 300 MB to 60 MB.
    assert built.study.size < 60 / 300 * built.study.received_slices < 60 / 300 * built.study.stored_pixels
