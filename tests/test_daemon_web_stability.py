from math import log

import pytest

from daemon.web.stability import Stability, compare, counts, edges_of, index


def test_the_index_is_the_one_computed_by_hand() -> None:
    # Half a count is added to each bin: (10.5, 20.5, 30.5, 40.5) of 102 against the same backwards.
    # 2 * [(40.5 - 10.5) / 102 * ln(40.5 / 10.5) + (30.5 - 20.5) / 102 * ln(30.5 / 20.5)] = 0.87198
    assert index([10, 20, 30, 40], [40, 30, 20, 10]) == pytest.approx(0.87198, abs=5e-6)
    # (50.5 - 60.5) / 101 * ln(50.5 / 60.5) + (50.5 - 40.5) / 101 * ln(50.5 / 40.5) = 0.03974
    assert index([60, 40], [50, 50]) == pytest.approx(0.03974, abs=5e-6)


def test_the_same_distribution_has_none_and_an_empty_bin_a_finite_one() -> None:
    assert index([5, 5], [5, 5]) == 0
    assert index([0, 10], [10, 0]) == pytest.approx(2 * (10 / 11) * log(21))


def test_a_reference_is_parted_into_tenths_and_fewer_where_values_are_the_same() -> None:
    edges = edges_of([float(value) for value in range(100)])

    assert counts([float(value) for value in range(100)], edges) == [10] * 10
    assert edges_of([5.0] * 50) == [5.0]
    assert counts([4.0, 5.0, 6.0], [5.0]) == [1, 2]


@pytest.mark.parametrize(
    ("value", "by_chance", "words"),
    [
        (0.09, 0.05, "stable"),
        (0.1, 0.05, "watch"),
        (0.25, 0.05, "changed"),
        (0.2, 0.21, "stable"),
        (0.2, 0.26, "too few"),
        (0.3, 0.26, "changed"),
    ],
)
def test_the_bounds_are_the_usual_ones_and_what_chance_does_is_no_change(
    value: float, by_chance: float, words: str
) -> None:
    assert Stability(value, by_chance).words == words


def test_values_are_compared_with_the_tenths_of_the_reference() -> None:
    then = [float(value) for value in range(1000)]

    # 21.666 is the 99 % quantile of chi-squared with 9 degrees of freedom, from a table.
    same, other = compare(then, then), compare(then, [value + 500 for value in then])
    assert same is not None
    assert other is not None
    assert same.value == 0
    assert same.by_chance == pytest.approx(21.666 * 2 / 1000, rel=2e-3)
    assert (same.words, other.words, compare(then, [])) == ("stable", "changed", None)
