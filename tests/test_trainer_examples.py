"""What training slices are made of: samples, disturbances and painted lesions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from lungnode.lungs import lung_mask
from lungnode.phantom import phantom_study
from lungnode.pixels import Box, Gray, crop_box, hounsfield, lung_window
from lungnode.recipe import Data, Input, Recipe, Training, Way
from lungnode.views import Place
from trainer.development import collect_samples
from trainer.examples import View, judging_views, make_example, training_views
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
    changed = painted.gray.astype(int) - gray
    assert changed.min() >= -1
    assert (changed > 20).sum() > 0.01 * lung_mask(gray).sum()
    outside = ~lung_mask(gray)
    assert (changed[outside] > 20).mean() < 0.01


def test_nothing_is_painted_where_no_lung_is_seen() -> None:
    assert paint_lesions(np.full((128, 128), 220, np.uint8), np.random.default_rng(0)) is None


def test_the_same_seed_disturbs_alike_and_another_one_does_not(gray: Gray) -> None:
    box = crop_box(gray, "lung")

    def disturbed(seed: int) -> Gray:
        jitter = Jitter(64, np.random.default_rng(seed))
        return jitter.disturb(jitter.place(box, gray.shape).take(gray))

    first, again, other = disturbed(0), disturbed(0), disturbed(1)

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_healthy_scan_is_learnt_with_painted_lesions_too_and_a_sick_one_is_not(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"data": Data(painted=True), "training": Training(augmentation=True)})
    healthy = Sample("luna16", tmp_path, positive=False, group="a", healthy_scan=True)
    sick = Sample("covid-ct", tmp_path, positive=True, group="b")

    assert training_views(healthy, recipe) == [View(), View(False, 1), View(True, 0), View(True, 1)]
    assert training_views(sick, recipe) == [View(), View(False, 1)]
    assert training_views(healthy, RECIPE) == [View()]


def test_each_part_of_a_slice_is_disturbed_once_a_time_and_seen_as_it_is_from_each_side() -> None:
    views: tuple[Way, ...] = ("crop", "crop mirrored", "whole")
    recipe = RECIPE.model_copy(
        update={"input": Input(size=64, views=views), "training": Training(augmentation=True, views=3)}
    )
    alone = Sample("covid-ct", Path(), positive=True, group="b")

    assert training_views(alone, recipe) == [
        *(View(way=way) for way in views),
        *(View(disturbance=number, way=way) for number in (1, 2) for way in views[::2]),
    ]
    assert judging_views(alone, recipe) == [View(way=way) for way in views]
    assert judging_views(replace(alone, study="1.2"), recipe) == [View()]


def test_an_example_depends_on_its_slice_view_and_seed_alone(gray: Gray, tmp_path: Path) -> None:
    path = tmp_path / "slice.png"
    Image.fromarray(gray).save(path)
    sample = Sample("luna16", path, positive=False, group="a", healthy_scan=True)
    painted = View(painted=True, disturbance=1)

    first, again, other = (make_example(sample, painted, RECIPE, digest) for digest in ("1f", "1f", "2f"))
    plain = make_example(sample, View(), RECIPE, "1f")

    assert first
    assert again
    assert other
    assert plain
    assert first.positive
    assert not plain.positive
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_an_example_says_where_lesions_are_seen_and_that_a_healthy_lung_has_none(
    gray: Gray, tmp_path: Path
) -> None:
    path = tmp_path / "slice.png"
    Image.fromarray(gray).save(path)
    healthy = Sample("luna16", path, positive=False, group="a", healthy_scan=True)
    unknown = Sample("covid-ct", path, positive=True, group="b")

    painted = make_example(healthy, View(painted=True), RECIPE, "1f")
    plain = make_example(healthy, View(), RECIPE, "1f")
    sick = make_example(unknown, View(), RECIPE, "1f")

    assert painted
    assert plain
    assert sick
    assert sick.lesions is None
    assert plain.lesions is not None
    assert not plain.lesions.any()
    assert painted.lesions is not None
    brighter = painted.image.astype(int) - plain.image
    assert brighter[painted.lesions > 64].mean() > 20
    assert abs(brighter[painted.lesions == 0].mean()) < 2


def test_lesions_are_moved_and_mirrored_with_their_slice(gray: Gray) -> None:
    painted = paint_lesions(gray, np.random.default_rng(0))
    assert painted
    mirrored = Place(Box(10, 200, 20, 240), 64, mirrored=True)

    seen = mirrored.take((painted.density * 255).astype(np.uint8))

    assert np.array_equal(
        seen[:, ::-1], Place(mirrored.box, 64).take((painted.density * 255).astype(np.uint8))
    )


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
