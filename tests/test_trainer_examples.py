"""What training slices are made of: samples, disturbances and painted lesions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from lungnode.lungs import lung_mask
from lungnode.phantom import phantom_study
from lungnode.pixels import Gray, crop_box, hounsfield, lung_window
from lungnode.recipe import Input, Recipe
from trainer.development import collect_samples
from trainer.examples import make_examples
from trainer.jitter import Jitter
from trainer.painting import paint_lesions
from trainer.samples import Sample

RECIPE = Recipe(name="test", input=Input(size=64, crop="lung"))


@pytest.fixture(scope="module")
def gray(tmp_path_factory: pytest.TempPathFactory) -> Gray:
    study = phantom_study(tmp_path_factory.mktemp("phantom"), slices=7, lesions=False, size=256)
    return lung_window(hounsfield(dcmread(study.paths[3])))


def test_lesions_are_painted_into_the_lung_alone_and_make_it_denser(gray: Gray) -> None:
    painted = paint_lesions(gray, np.random.default_rng(0))

    assert painted is not None
    changed = painted.astype(int) - gray
    assert changed.min() >= -1
    assert (changed > 20).sum() > 0.01 * lung_mask(gray).sum()
    outside = ~lung_mask(gray)
    assert (changed[outside] > 20).mean() < 0.01


def test_nothing_is_painted_where_no_lung_is_seen() -> None:
    assert paint_lesions(np.full((128, 128), 220, np.uint8), np.random.default_rng(0)) is None


def test_the_same_seed_disturbs_alike_and_another_one_does_not(gray: Gray) -> None:
    box = crop_box(gray, "lung")

    first, again, other = (Jitter(64, np.random.default_rng(seed))(gray, box) for seed in (0, 0, 1))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_healthy_scan_gives_sick_examples_too_and_a_sick_one_does_not(gray: Gray, tmp_path: Path) -> None:
    path = tmp_path / "slice.png"
    Image.fromarray(gray).save(path)
    healthy = Sample("luna16", path, positive=False, group="a", healthy_scan=True)
    sick = Sample("covid-ct", path, positive=True, group="b")

    examples = list(make_examples([healthy, sick], RECIPE))

    found = [(e.sample.group, e.positive, e.genuine) for e in examples]
    assert found == [
        ("a", False, True),
        ("a", False, False),
        ("a", True, False),
        ("a", True, False),
        ("b", True, True),
        ("b", True, False),
    ]


def test_every_labelled_slice_is_found_and_no_patient_is_on_both_sides_of_the_official_split(
    shared_data: Path,
) -> None:
    samples = collect_samples(shared_data)

    counts = {
        source: (
            sum(s.positive for s in samples if s.source == source),
            sum(not s.positive for s in samples if s.source == source),
        )
        for source in ("covid-ct", "sars-cov-2-ct", "luna16")
    }
    assert counts == {"covid-ct": (251, 292), "sars-cov-2-ct": (1001, 983), "luna16": (0, 500)}
    assert sum(s.positive for s in samples if s.source == "covid-ct-md") == 80
    official = [s for s in samples if s.source == "covid-ct"]
    assert {s.group for s in official if s.split == "validation"}.isdisjoint(
        s.group for s in official if s.split == "train"
    )
