"""Splits that never part a patient."""

from dataclasses import replace
from pathlib import Path

import pytest

from lungnode.errors import UnusableError
from trainer.samples import Sample, Split
from trainer.splits import (
    check_classes,
    check_disjoint,
    check_labels,
    count_classes,
    count_duplicates,
    split_samples,
)


def sample(number: int, positive: bool, group: str, **changes: object) -> Sample:
    made = Sample("unit", Path(f"{number}.png"), positive, group, digest=f"{number:064x}")
    return replace(made, **changes)  # type: ignore[arg-type]


def cohort(patients: int = 50, source: str = "unit", first: int = 0) -> list[Sample]:
    """Three images of each patient; the first fifth is sick, and has a clear image too."""
    return [
        sample(
            first + 3 * number + image,
            number < patients / 5 and image > 0,
            f"{source} {number}",
            source=source,
        )
        for number in range(patients)
        for image in range(3)
    ]


def test_no_patient_is_parted_and_both_classes_are_in_both_parts() -> None:
    for seed in range(20):
        drawn = split_samples(cohort(), 0.2, seed)

        check_disjoint(drawn)
        # A fifth of 10 sick and of 40 clear patients: 2 sick ones with two sick images, and 8.
        counts = count_classes(drawn)
        assert counts[Split.VALIDATION] == {"positive": 4, "negative": 26}
        assert counts[Split.TRAIN] == {"positive": 16, "negative": 104}


def test_the_seed_alone_draws() -> None:
    first, again, other = (split_samples(cohort(), 0.2, seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_each_source_gives_its_share() -> None:
    drawn = split_samples([*cohort(50, "a"), *cohort(10, "b", 1000)], 0.2, 0)

    held_out = {s.group for s in drawn if s.split is Split.VALIDATION}
    assert sorted(group[0] for group in held_out) == ["a"] * 10 + ["b"] * 3


def test_patients_with_a_study_or_a_file_in_common_are_drawn_as_one() -> None:
    for seed in range(20):
        samples = cohort()
        samples[0] = replace(samples[0], study="1.2")
        samples[30] = replace(samples[30], study="1.2")
        samples[100] = replace(samples[100], digest=samples[31].digest)

        drawn = split_samples(samples, 0.5, seed)

        check_disjoint(drawn)
        assert drawn[0].split == drawn[30].split == drawn[100].split


def test_where_a_list_names_validation_samples_nothing_is_drawn() -> None:
    samples = [
        sample(1, True, "a", split=Split.VALIDATION),
        sample(2, True, "a"),
        sample(3, True, "b", split=Split.TEST),
        sample(4, True, "c"),
    ]

    assert [s.split for s in split_samples(samples, 0.5, 0)] == ["validation", "validation", "test", "train"]


def test_a_test_patient_of_the_list_is_not_drawn_from() -> None:
    samples = [replace(s, split=Split.TEST if s.group == "unit 0" else None) for s in cohort(10)]

    drawn = split_samples(samples, 0.5, 0)

    assert {s.split for s in drawn if s.group == "unit 0"} == {Split.TEST}
    assert {s.split for s in drawn} == set(Split)


def test_a_patient_in_two_splits_is_refused_by_name() -> None:
    leak = [sample(1, True, "Doe", split=Split.TRAIN), sample(2, True, "Doe", split=Split.VALIDATION)]

    with pytest.raises(UnusableError) as raised:
        check_disjoint(leak)

    assert str(raised.value) == (
        "The patient Doe is in two splits, with 1.png in train and with 2.png in validation; "
        "a patient must be whole in one."
    )


def test_a_study_in_two_splits_is_refused_whatever_its_patients_are_called() -> None:
    leak = [
        sample(1, True, "a", split=Split.TRAIN, study="1.2.3"),
        sample(2, True, "b", split=Split.TEST, study="1.2.3"),
    ]

    with pytest.raises(UnusableError, match=r"The study 1\.2\.3 is in two splits"):
        check_disjoint(leak)


def test_the_same_file_under_two_names_in_two_splits_is_refused() -> None:
    first = sample(1, True, "a", split=Split.TRAIN)
    copy = replace(first, path=Path("copy.png"), group="b", split=Split.TEST)

    with pytest.raises(
        UnusableError, match=r"copy\.png of split test is the same file as 1\.png of split tra"
    ):
        check_disjoint([first, copy])


def test_copies_in_one_split_are_counted_and_must_agree() -> None:
    first = sample(1, True, "a", split=Split.TRAIN)
    copies = [first, replace(first, path=Path("b.png")), replace(first, path=Path("c.png"))]

    check_disjoint(copies)
    check_labels(copies)
    assert count_duplicates(copies) == 2
    with pytest.raises(UnusableError, match=r"d\.png is labelled negative and is the same file as 1\.png"):
        check_labels([*copies, replace(first, path=Path("d.png"), positive=False)])


@pytest.mark.parametrize("lacking", ["positive", "negative"])
def test_an_empty_class_is_told(lacking: str) -> None:
    has = lacking == "negative"
    samples = [
        sample(1, True, "a", split=Split.TRAIN),
        sample(2, False, "b", split=Split.TRAIN),
        sample(3, has, "c", split=Split.VALIDATION),
    ]

    with pytest.raises(UnusableError) as raised:
        check_classes(samples, (Split.TRAIN, Split.VALIDATION))

    assert str(raised.value).startswith(
        f"The validation split has no {lacking} image (train: 1 positive, 1 neg"
    )
    check_classes(samples, (Split.TRAIN,))


def test_one_patient_of_a_class_cannot_be_drawn_into_two_parts() -> None:
    samples = [sample(n, n == 0, str(n)) for n in range(10)]

    drawn = split_samples(samples, 0.2, 0)

    assert drawn[0].split is Split.TRAIN
    with pytest.raises(UnusableError, match="from at least two patients each"):
        check_classes(drawn, (Split.TRAIN, Split.VALIDATION))
