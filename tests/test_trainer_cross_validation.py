"""Each sample is judged by a network that never saw its patient; what is measured is measured once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungnode.errors import UnusableError
from lungnode.model_folder import Decision
from lungnode.runtime import load_tensorflow
from tests.training_data import draw_slices, small_recipe
from trainer.progress import Silence
from trainer.samples import Sample, Split


@pytest.fixture(scope="module")
def module() -> Any:
    load_tensorflow()
    import trainer.cross_validation  # noqa: PLC0415 - TensorFlow takes seconds to import

    return trainer.cross_validation


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """24 slices of 12 patients in two sources; a patient's two slices have one label."""
    drawn = draw_slices(tmp_path_factory.mktemp("slices"), 24)
    return [
        replace(sample, group=f"p{number // 4 * 2 + number % 2}", source="a" if number < 12 else "b")
        for number, sample in enumerate(drawn)
    ]


class Watched:
    """A bench that notes whom each training saw, and says a slice's number."""

    def __init__(self) -> None:
        self.trained: list[Sequence[Sample]] = []

    def fit(self, task: Any) -> None:
        """Note the samples."""
        self.trained.append([case.sample for case in (*task.training, *task.validation)])

    def outputs(self, cases: Sequence[Any]) -> tuple[Any, Any]:
        """Return the number of each slice as its logit."""
        logits = np.array([float(case.sample.path.stem) for case in cases])
        return np.ones((len(cases), 2, 2), np.float32), logits[:, np.newaxis]

    def unseen(self, task: Any) -> Any:
        """Judge the validation cases."""
        from trainer.bench import Judged  # noqa: PLC0415 - TensorFlow

        return Judged(task.validation, *self.outputs(task.validation))


def test_more_folds_than_patients_are_refused_before_anything_is_trained(
    module: Any, samples: list[Sample]
) -> None:
    bench = Watched()

    with pytest.raises(UnusableError, match="13 folds need as many patients, and there are 12"):
        module.cross_validate(samples, 13, 0, module.Trial(small_recipe(), bench))

    assert not bench.trained


def test_no_patient_is_trained_on_and_judged(module: Any, samples: list[Sample]) -> None:
    bench = Watched()

    found = module.cross_validate(samples, 3, 0, module.Trial(small_recipe(), bench))

    readings = [found.decisions[fold] for fold in found.folds]
    calibrated = [each.slope * number + each.intercept for number, each in enumerate(readings)]
    assert found.logits.tolist() == pytest.approx(calibrated)
    assert len(bench.trained) == 3
    for sample, fold in zip(samples, found.folds, strict=True):
        assert sample.group not in {each.group for each in bench.trained[fold]}
    assert {sample.group for seen in bench.trained for sample in seen} == {s.group for s in samples}


def test_extra_samples_are_learnt_in_each_fold_and_never_judged_or_validated_with(
    module: Any, samples: list[Sample]
) -> None:
    bench = Watched()
    judged = [replace(sample, group=sample.path.name) for sample in samples[:12]]
    extra = samples[12:]

    found = module.cross_validate(judged, 2, 0, module.Trial(small_recipe(), bench), extra=extra)

    assert len(found.samples) == 12
    for seen in bench.trained:
        of_extra = [sample for sample in seen if sample.source == "b"]
        assert len(of_extra) == 12
        assert {sample.split for sample in of_extra} == {Split.TRAIN}


def test_a_source_that_is_left_out_is_judged_alone(module: Any, samples: list[Sample]) -> None:
    bench = Watched()

    found = module.leave_out(samples, "b", module.Trial(small_recipe(), bench))

    assert {sample.source for sample in found.samples} == {"b"}
    assert {sample.source for seen in bench.trained for sample in seen} == {"a"}
    with pytest.raises(UnusableError, match="There is no source c; the samples are of a, b"):
        module.leave_out(samples, "c", module.Trial(small_recipe(), bench))


def test_a_part_that_was_measured_is_not_trained_again(
    module: Any, samples: list[Sample], tmp_path: Path
) -> None:
    first, second, other = Watched(), Watched(), Watched()
    measured = module.cross_validate(samples, 2, 0, module.Trial(small_recipe(), first, tmp_path))

    again = module.cross_validate(samples, 2, 0, module.Trial(small_recipe(), second, tmp_path))
    module.cross_validate(samples, 2, 0, module.Trial(small_recipe(batch=5), other, tmp_path))

    assert (len(first.trained), len(second.trained), len(other.trained)) == (2, 0, 2)
    assert again.logits.tolist() == measured.logits.tolist()
    assert again.decisions == measured.decisions


def test_thresholds_of_folds_become_one_half(module: Any, samples: list[Sample]) -> None:
    decisions = (Decision(threshold=0.5), Decision(threshold=0.8))
    held_out = module.HeldOut(tuple(samples[:2]), np.array([1.0, np.log(4)]), (0, 1), decisions)

    # By hand: 1 / (1 + exp(-1)); the logit of 0.8 is log 4, so the second stands at its threshold.
    assert held_out.probabilities == pytest.approx([0.731059, 0.8])
    assert held_out.scores == pytest.approx([0.731059, 0.5])


def test_verdicts_are_by_each_threshold_and_ranks_by_probability(module: Any, samples: list[Sample]) -> None:
    from trainer.experiment import held_out_figures  # noqa: PLC0415 - TensorFlow

    four = tuple(
        replace(sample, positive=positive, group=str(number))
        for number, (sample, positive) in enumerate(zip(samples, (True, False, True, False), strict=False))
    )
    decisions = (Decision(threshold=0.9), Decision(threshold=0.1))
    logits = np.array([3.0, 2.0, 1.0, -3.0])

    found = held_out_figures(module.HeldOut(four, logits, (0, 0, 1, 1), decisions))

    # By hand: logits of the thresholds are +-2.197, so every verdict is right; by probability the second
    # slice, which is negative, ranks above the third: 3 of 4 pairs are in order.
    assert found["acc"] == 1.0
    assert found["auc"] == 0.75


def test_a_study_is_judged_by_its_own_fold_and_its_slices_are_ranked(
    module: Any, samples: list[Sample]
) -> None:
    from trainer.experiment import judge_studies  # noqa: PLC0415 - TensorFlow

    drawn = zip(samples, "aaab", (True, True, False, False), strict=False)
    four = tuple(replace(sample, study=study, positive=positive) for sample, study, positive in drawn)
    decisions = (Decision(threshold=0.3, study_offset=1.0), Decision(threshold=0.7))
    held_out = module.HeldOut(four, np.array([2.0, -1.0, 1.0, 0.0]), (0, 0, 0, 1), decisions)

    found = judge_studies(held_out, small_recipe())

    # By hand: the highest slice of three counts, 2 less 1; one of its two pairs is in order.
    assert found["a"].probability == pytest.approx(1 / (1 + np.exp(-1)))
    assert (found["a"].threshold, found["a"].auc) == (0.3, 0.5)
    assert (found["b"].probability, found["b"].threshold, found["b"].auc) == (0.5, 0.7, None)


def test_folds_share_features_and_each_starts_from_the_first_weights(
    module: Any, samples: list[Sample], tmp_path: Path
) -> None:
    from trainer.workbench import open_bench  # noqa: PLC0415 - TensorFlow

    recipe = small_recipe(frozen=1, epochs=1)
    bench = open_bench(recipe, tmp_path / "features", Silence())
    forwards = module.leave_out(samples, "a", module.Trial(recipe, bench))
    blocks = sorted(path.name for path in (tmp_path / "features").rglob("*.npy"))

    module.leave_out(samples, "b", module.Trial(recipe, bench))
    again = module.leave_out(samples, "a", module.Trial(recipe, bench))

    assert again.logits.tolist() == forwards.logits.tolist()
    assert sorted(path.name for path in (tmp_path / "features").rglob("*.npy")) == blocks
