"""Neighbouring slices of a study are read together."""

import numpy as np
import pytest

from lungnode.depth import highest_cells, look_in_depth, read_in_depth
from lungnode.logits import to_logits
from lungnode.recipe import Recipe, StudyRule
from tests.training_data import deep_recipe

RECIPE = deep_recipe(lesion_cells=2)
RANDOM = np.random.default_rng(0)


def maps(count: int) -> np.ndarray:
    found: np.ndarray = RANDOM.standard_normal((count, 4, 5)).astype(np.float32)
    return found


def test_each_place_is_the_mean_of_its_neighbours_by_their_distance() -> None:
    given, positions = maps(4), (30.0, 20.0, 15.0, -400.0)

    averaged, _ = look_in_depth(given, positions, RECIPE)

    near, far = np.exp(-0.5), np.exp(-0.5 * 9)
    expected = (given[2] + near * given[1] + far * given[0]) / (1 + near + far)
    np.testing.assert_allclose(averaged[2], expected, rtol=1e-5)
    np.testing.assert_allclose(averaged[3], given[3], rtol=1e-5)


def test_what_is_seen_in_one_slice_alone_loses_and_what_goes_on_does_not() -> None:
    given = np.zeros((9, 4, 5), np.float32)
    given[4, 1, 1] = given[:, 3, 3] = 6.0

    _, gains = look_in_depth(given, range(0, 18, 2), RECIPE)

    assert gains[4] < -2
    assert np.abs(np.delete(gains, 4)).max() < abs(gains[4]) / 2


def test_a_probability_follows_the_highest_cells() -> None:
    given, positions = maps(6), range(0, 12, 2)
    alone = np.linspace(0.2, 0.9, 6).astype(np.float32)

    together, averaged = read_in_depth(alone, given, positions, RECIPE)

    change = highest_cells(averaged, 2) - highest_cells(given, 2)
    np.testing.assert_allclose(to_logits(together), to_logits(alone) + change, atol=1e-5)


def test_the_order_of_the_slices_does_not_matter() -> None:
    given, positions, order = maps(6), range(0, 12, 2), RANDOM.permutation(6)
    alone = np.linspace(0.2, 0.9, 6).astype(np.float32)

    together, averaged = read_in_depth(alone, given, positions, RECIPE)
    shuffled, moved = read_in_depth(alone[order], given[order], [positions[row] for row in order], RECIPE)

    np.testing.assert_allclose(shuffled, together[order], rtol=1e-6)
    np.testing.assert_allclose(moved, averaged[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("recipe", "positions"),
    [
        (RECIPE, None),
        (RECIPE.model_copy(update={"study": StudyRule()}), (0.0, 1.0, 2.0)),
        (Recipe(name="without a lesion head", study=StudyRule(depth_mm=5.0)), (0.0, 1.0, 2.0)),
    ],
)
def test_otherwise_each_slice_stands_for_itself(recipe: Recipe, positions: tuple[float, ...] | None) -> None:
    given, alone = maps(3), np.array([0.1, 1.0, 0.5], np.float32)

    together, averaged = read_in_depth(alone, given, positions, recipe)

    assert together.tolist() == alone.tolist()
    assert np.array_equal(averaged, given)


def test_the_highest_cells_count() -> None:
    assert highest_cells(np.array([[[1.0, 5.0], [3.0, -2.0]]]), 2).tolist() == [4.0]
