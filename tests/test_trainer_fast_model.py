from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lungnode.errors import UnusableError
from lungnode.model_folder import Decision, ModelInfo
from tests.training_data import small_recipe
from trainer.evaluate import Evaluation, Scored
from trainer.fast_model import part_samples
from trainer.gate import compare_runtimes
from trainer.samples import Sample, Split


def sample(number: int, **values: object) -> Sample:
    """Return a sample; ten patients have a study of five slices each, the others a picture."""
    study = f"study {number // 5}" if number < 50 else ""
    group = study or f"patient {number}"
    made = Sample("collection", Path(f"{number}.png"), number % 2 == 0, group, Split.TRAIN, study)
    return replace(made, **values)  # type: ignore[arg-type]


def test_the_gate_sees_no_patient_that_calibrated() -> None:
    parts = part_samples([sample(number) for number in range(200)], seed=0)

    assert {each.group for each in parts.calibration} & {each.group for each in parts.gate} == set()
    assert min(len(parts.calibration), len(parts.gate)) >= 30
    judged = [each.study for each in parts.gate if each.study]
    assert {judged.count(study) for study in judged} == {5}  # whole studies


def test_neither_phantoms_nor_test_slices_calibrate_or_judge() -> None:
    real = [sample(number) for number in range(200)]
    phantoms = [sample(number, attributes={"manufacturer": "LUNGNODE"}) for number in range(200, 400)]
    test = [sample(number, split=Split.TEST) for number in range(400, 600)]

    parts = part_samples([*real, *phantoms, *test], seed=0)

    known = {each.path for each in real}
    assert {each.path for each in (*parts.calibration, *parts.gate)} <= known


def test_too_few_slices_are_told() -> None:
    with pytest.raises(UnusableError, match="40 real slices of training and validation are too few"):
        part_samples([sample(number) for number in range(100, 140)], seed=0)


def evaluation(slices: list[float], studies: list[float]) -> Evaluation:
    info = ModelInfo("m", "1", "ab", small_recipe(), Decision(threshold=0.5))
    return Evaluation(info, (), scored(slices), scored(studies) if studies else None, (), "")


def scored(scores: list[float]) -> Scored:
    labels = np.arange(len(scores)) % 2 == 1
    rows = np.arange(len(scores))
    return Scored(tuple(map(str, rows)), tuple(map(str, rows)), labels, np.array(scores), rows)


def test_a_runtime_that_agrees_passes_the_gate_with_its_figures() -> None:
    reference = evaluation([0.1, 0.9, 0.2, 0.8], [0.3, 0.7])
    fast = evaluation([0.1, 0.9, 0.24, 0.8], [0.31, 0.7])

    found = compare_runtimes(reference, fast)

    assert found.passed
    assert found.largest_difference == pytest.approx(0.04)
    assert found.mean_difference == pytest.approx(0.01)
    assert (found.auc_difference, found.slice_flips, found.study_flips) == (0.0, 0, 0)


def test_a_runtime_that_flips_a_study_is_refused() -> None:
    reference = evaluation([0.1, 0.9, 0.2, 0.8], [0.49, 0.7])
    fast = evaluation([0.1, 0.9, 0.2, 0.8], [0.5, 0.7])

    assert compare_runtimes(reference, fast).objections == ("1 studies are judged otherwise",)


def test_a_runtime_with_another_auc_is_refused_and_flipped_slices_are_counted() -> None:
    reference = evaluation([0.1, 0.9, 0.2, 0.8], [])
    fast = evaluation([0.1, 0.9, 0.2, 0.15], [])  # one of four pairs of a sick and a healthy one is wrong

    found = compare_runtimes(reference, fast)

    assert found.auc_difference == pytest.approx(0.25)
    assert found.slice_flips == 1
    assert found.objections == ("the AUC differs by 0.2500, more than 0.005",)


def test_without_both_classes_nothing_is_proved() -> None:
    both = evaluation([0.1], [])

    assert compare_runtimes(both, both).objections == ("one of the classes is missing, so there is no AUC",)


def test_probabilities_that_are_no_numbers_are_refused() -> None:
    reference = evaluation([0.1, 0.9, 0.2, 0.8], [])

    assert not compare_runtimes(reference, evaluation([np.nan] * 4, [])).passed
