"""How slices are looked at."""

import numpy as np
import pytest

from lungnode.pixels import Box
from lungnode.recipe import Input
from lungnode.views import Place, find_place, join_views, ways_of
from tests.toy_model import MeanGray
from worker.analysis import picture_findings
from worker.conduct import Conduct

GRAY = np.random.default_rng(0).integers(0, 256, (64, 80)).astype(np.uint8)


def test_the_crop_and_the_whole_are_seen_from_both_sides() -> None:
    recipe = Input(size=32, crop="paper")

    assert find_place(GRAY, "crop", recipe) == Place(Box(6, 58, 0, 80), 32)
    assert find_place(GRAY, "whole mirrored", recipe) == Place(Box(0, 64, 0, 80), 32, mirrored=True)
    plain, mirrored = (find_place(GRAY, way, recipe).take(GRAY) for way in ("whole", "whole mirrored"))
    assert np.array_equal(plain, mirrored[:, ::-1])


def test_a_slice_of_a_study_is_looked_at_once_and_a_picture_in_every_way() -> None:
    recipe = Input(views=("crop", "whole mirrored"))

    assert ways_of(recipe, alone=False) == ("crop",)
    assert ways_of(recipe, alone=True) == ("crop", "whole mirrored")


def test_views_are_joined_by_their_logits() -> None:
    # The mean of the logits of 0.5 and 0.9 is log(9) / 2: odds of 3.
    assert join_views(np.array([[0.5, 0.9]], np.float32)) == pytest.approx([0.75])
    assert join_views(np.array([[0.0, 1.0]], np.float32)) == pytest.approx([0.5])


def test_a_pictures_probability_is_that_of_all_its_views() -> None:
    model = MeanGray(
        recipe=MeanGray().recipe.model_copy(update={"input": Input(size=32, views=("crop", "whole"))})
    )
    places = [find_place(GRAY, way, model.info.recipe.input) for way in ("crop", "whole")]
    means = np.array([[place.take(GRAY).mean() / 255 for place in places]], np.float32)

    (finding,) = picture_findings([GRAY], model, Conduct(lambda: 0.0, lambda *_: None))

    assert means[0, 0] != means[0, 1]
    assert finding.probability == pytest.approx(float(join_views(means)[0]), abs=1e-6)
    assert finding.slices[0].box == Box(6, 58, 0, 80)
