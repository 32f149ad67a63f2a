"""Parts of a test, each measured alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluated import judged
from trainer.evaluate import Evaluation
from trainer.subgroups import ATTRIBUTES, Subgroup, subgroups


def named(evaluation: Evaluation) -> dict[str, Subgroup]:
    return {f"{each.attribute}: {each.value}": each for each in subgroups(evaluation, "slices")}


def test_each_part_is_measured_alone(tmp_path: Path) -> None:
    found = named(judged(tmp_path))

    # Patients 0, 4 and 8 of the sick and 12 and 16 of the healthy are men; 0 alone of them is missed.
    assert found["sex: male"].figures["n"] == 5
    assert found["sex: male"].figures["sens"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["sex: female"].figures["n"] == 15
    assert found["sex: female"].figures["sens"] == pytest.approx(6 / 7, abs=1e-4)


def test_unknown_values_come_last_and_an_attribute_without_differences_is_left_out(tmp_path: Path) -> None:
    found = list(named(judged(tmp_path)))

    assert found == [
        "sex: female",
        "sex: male",
        "age: 40-49",
        "age: unknown",
        "source: one",
        "source: two",
    ]


def test_a_part_with_few_patients_of_a_class_is_marked(tmp_path: Path) -> None:
    evaluation = judged(tmp_path)
    samples = tuple(replace(s, source="a" if s.positive else "b") for s in evaluation.samples)

    found = named(replace(evaluation, samples=samples))

    assert found["sex: male"].figures["few_patients"]
    assert not found["source: a"].figures["few_patients"]  # ten of one class and none of the other
    assert found["source: a"].figures["spe"] is None


@pytest.mark.parametrize(
    ("attribute", "told", "value"),
    [
        ("slice thickness", {"slice_thickness_mm": "1"}, "over 0 to 1 mm"),
        ("slice thickness", {"slice_thickness_mm": "1.25"}, "over 1 to 2 mm"),
        ("slice thickness", {"slice_thickness_mm": "7.5"}, "over 5 mm"),
        ("slice thickness", {"slice_thickness_mm": "thin"}, "unknown"),
        ("slice thickness", {}, "unknown"),
        ("symptoms", {"symptomatic": "no"}, "asymptomatic"),
        ("symptoms", {"symptomatic": "yes"}, "symptomatic"),
        ("manufacturer", {"manufacturer": "GE"}, "GE"),
        ("label source", {"label_source": "rt-pcr"}, "rt-pcr"),
        ("file type", {}, "PNG"),
    ],
)
def test_attributes_become_the_values_of_the_table(
    tmp_path: Path, attribute: str, told: dict[str, str], value: str
) -> None:
    sample = replace(judged(tmp_path).samples[0], attributes=told)

    assert ATTRIBUTES[attribute](sample) == value
