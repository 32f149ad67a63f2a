import numpy as np
import pytest

from lungnode.heatmap import ANCHORS, FLOOR, colors, overlay, spread_highest, upsample
from lungnode.pixels import Box


def test_outside_the_box_that_the_network_saw_nothing_is_active() -> None:
    activation = upsample(np.ones((3, 4), np.float32), Box(top=10, bottom=40, left=20, right=80), 64, 96)

    assert activation.shape == (64, 96)
    assert activation[10:40, 20:80].min() > 0.99
    assert activation.sum() == pytest.approx(30 * 60, rel=1e-3)


def test_a_cell_s_activation_lies_where_the_cell_lies() -> None:
    class_map = np.zeros((4, 4), np.float32)
    class_map[3, 1] = 1

    activation = upsample(class_map, Box(top=8, bottom=48, left=16, right=96), 64, 128)

    peak = np.unravel_index(activation.argmax(), activation.shape)
    # Cell (3, 1) of 4 x 4 over 40 x 80 pixels is centred at row 8 + 35, column 16 + 30.
    assert abs(peak[0] - 43) <= 5
    assert abs(peak[1] - 46) <= 3


def test_activation_stays_between_0_and_1() -> None:
    noise = np.random.default_rng(2).random((10, 10)).astype(np.float32).round()

    activation = upsample(noise, Box(0, 100, 0, 100), 100, 100)

    assert activation.min() >= 0
    assert activation.max() <= 1


def test_a_slice_without_activation_stays_gray() -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)

    painted = overlay(gray, np.full((16, 16), FLOOR, np.float32))

    assert np.array_equal(painted, np.repeat(gray[:, :, np.newaxis], 3, axis=2))


def test_a_slice_is_painted_where_it_is_active_and_only_there() -> None:
    gray = np.full((16, 16), 100, np.uint8)
    activation = np.zeros((16, 16), np.float32)
    activation[4:8, 4:8] = 1

    painted = overlay(gray, activation)

    colored = (painted != 100).any(axis=2)
    assert colored[4:8, 4:8].all()
    assert colored.sum() == 16


def test_the_ends_of_the_scale_are_its_ends() -> None:
    ends = colors(np.array([[-1.0, 0.0, 1.0, 2.0]], np.float32))[0]

    assert [tuple(color) for color in ends.tolist()] == [ANCHORS[0], ANCHORS[0], ANCHORS[-1], ANCHORS[-1]]


def test_lightness_rises_all_along_the_scale() -> None:
    # Source: Rec. 709 luma.
    luma = colors(np.linspace(0, 1, 64, dtype=np.float32)[np.newaxis])[0] @ [0.2126, 0.7152, 0.0722]

    assert (np.diff(luma) >= 0).all()


def test_the_highest_are_chosen_in_their_order() -> None:
    assert spread_highest([0.1, 0.9, 0.2, 0.8, 0.1, 0.7], 2) == [1, 3]


def test_neighbours_of_the_highest_give_way_to_another_part_of_the_lung() -> None:
    values = [0.1] * 40
    values[10:14] = [0.9, 0.99, 0.98, 0.9]
    values[30] = 0.5

    assert spread_highest(values, 2) == [11, 30]


def test_when_all_are_wanted_all_are_chosen() -> None:
    assert spread_highest([0.3, 0.1, 0.2], 20) == [0, 1, 2]
    assert spread_highest([], 20) == []
    assert spread_highest([0.5], 0) == []


def test_of_equal_ones_the_upper_is_chosen() -> None:
    assert spread_highest([0.5] * 4, 1) == [0]
