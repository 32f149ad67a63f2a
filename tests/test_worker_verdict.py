import numpy as np
import pytest

from lungnode.lungs import Coverage
from lungnode.study_rule import study_probability
from worker.result import Verdict
from worker.verdict import WHOLE, Unseen, judge, unseen


def cover(areas: tuple[float, ...], *, above: bool = True, below: bool = True) -> Coverage:
    return Coverage(0, len(areas) - 1, True, "", areas, ends_above=above, ends_below=below)


def test_a_study_is_as_suspicious_as_its_most_suspicious_tenth() -> None:
    slices = np.array([0.1] * 18 + [0.7, 0.7], np.float32)

    assert study_probability(slices, 0.1, 0.0) == pytest.approx(0.7)


def test_the_offset_is_taken_off_the_logit() -> None:
    assert study_probability(np.array([0.5], np.float32), 0.1, np.log(3)) == pytest.approx(0.25)


def test_certain_slices_give_a_finite_probability() -> None:
    assert study_probability(np.array([0.0, 1.0], np.float32), 1.0, 0.0) == pytest.approx(0.5)


def test_a_probability_at_the_threshold_is_positive_whatever_is_missing() -> None:
    assert judge(0.5, 0.5, Unseen(share=0.9)) == (Verdict.POSITIVE, "")


def test_a_whole_lung_without_a_finding_is_negative() -> None:
    assert judge(0.4, 0.5, WHOLE) == (Verdict.NEGATIVE, "")


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        (Unseen(missing=20, share=0.2), "20 slices of the lung (20%) are missing"),
        (Unseen(missing=12, share=0.05, hole_mm=26), "26 mm of the lung are missing at one place"),
        (Unseen(cut_off=("below",)), "the lung is cut off below"),
    ],
)
def test_a_lung_seen_in_part_is_never_negative(lacking: Unseen, sentence: str) -> None:
    assert judge(0.4, 0.5, lacking) == (Verdict.UNDETERMINED, f"Nothing was found, but {sentence}.")


def test_missing_slices_are_counted_from_positions() -> None:
    positions = [100.0, 98.0, 92.0, 90.0]

    found = unseen(positions, 2.0, cover((0.1, 0.2, 0.2, 0.1)))

    assert (found.missing, found.hole_mm) == (2, 6.0)
    assert found.share == pytest.approx(1 / 3)


def test_regular_slices_far_apart_are_whole() -> None:
    assert unseen([30.0, 20.0, 10.0, 0.0], 10.0, cover((0.1, 0.2, 0.2, 0.1))).reasons == ()


def test_a_series_that_ends_within_a_large_lung_is_cut_off() -> None:
    found = unseen([2.0, 1.0, 0.0], 1.0, cover((0.0, 0.2, 0.19), below=False))

    assert found.cut_off == ("below",)


def test_a_series_that_ends_in_a_last_recess_is_not_cut_off() -> None:
    assert unseen([2.0, 1.0, 0.0], 1.0, cover((0.0, 0.2, 0.02), below=False)).reasons == ()
