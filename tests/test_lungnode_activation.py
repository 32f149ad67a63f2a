import numpy as np
import pytest

from lungnode.activation import show_maps, smooth


def test_a_place_is_averaged_with_its_neighbours_on_its_own_slice_alone() -> None:
    class_maps = np.zeros((2, 38, 38), np.float32)
    class_maps[0, 12, 12] = 9.0

    smoothed = smooth(class_maps)

    assert smoothed[0, 11:14, 11:14] == pytest.approx(np.ones((3, 3)))
    assert smoothed[0].sum() == pytest.approx(9.0)
    assert not smoothed[1].any()


def test_a_place_of_a_coarse_map_is_wide_enough_to_stand_for_itself() -> None:
    class_maps = np.zeros((1, 10, 10), np.float32)
    class_maps[0, 4, 4], class_maps[0, 4, 5] = 9.0, -90.0

    assert np.array_equal(smooth(class_maps), class_maps)


def test_activations_are_shown_on_one_scale_for_all_slices() -> None:
    class_maps = np.array([-1.0, 2.0, 4.0, 9.0], np.float32)[:, None, None] * np.ones((1, 3, 3), np.float32)

    assert show_maps(class_maps, scale=4.0)[:, 0, 0].tolist() == pytest.approx([0.0, 0.5, 1.0, 1.0])
