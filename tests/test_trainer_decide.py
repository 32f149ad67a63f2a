"""How a network is read: by what it says of slices that it did not learn from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungnode.model_folder import Decision, Reading
from lungnode.recipe import Data, Network, Recipe, StudyRule, Training
from lungnode.runtime import load_tensorflow
from trainer.metrics import auc
from trainer.samples import Sample

LESIONS = Recipe(
    name="lesions",
    network=Network(frozen=4, lesion_cells=5),
    data=Data(painted=True),
    training=Training(optimizer="exact"),
    study=StudyRule(whole_share=0.25),
)


@pytest.fixture(scope="module")
def decide() -> Any:
    load_tensorflow()
    from trainer.decide import decide as function  # noqa: PLC0415 - TensorFlow

    return function


def judged(outputs: Any, positive: Any, *, scans: Any) -> Any:
    """Cases with what a network says of them; a scan is of a study, and healthy where it is negative."""
    from trainer.bench import Judged  # noqa: PLC0415 - TensorFlow
    from trainer.features import Case  # noqa: PLC0415

    cases = []
    for sick, scan in zip(positive.tolist(), scans.tolist(), strict=True):
        study = "1.2" if scan else ""
        sample = Sample("a", Path(), sick, "p", study=study, healthy_scan=scan and not sick)
        cases.append(Case(sample, sick, (), ()))
    return Judged(cases, np.ones((len(cases), 2, 2), np.float32), outputs)


def test_a_study_is_read_by_its_lesions_more_than_a_picture() -> None:
    decision = Decision(slope=2.0, intercept=1.0, study=Reading(slope=0.5, lesions=1.5, intercept=-1.0))
    outputs = np.array([[3.0, 2.0]])

    assert decision.reading(alone=True).logits(outputs).tolist() == [7.0]
    assert decision.reading(alone=False).logits(outputs).tolist() == [0.5 * 3 + 1.5 * 2 - 1]
    assert (decision.map_slope, decision.reading(alone=False).map_slope) == (2.0, 2.0)
    assert Decision(slope=3.0).reading(alone=False).logits(outputs).tolist() == [9.0]


def test_pictures_and_scans_have_one_threshold_though_they_are_read_apart(decide: Any) -> None:
    random = np.random.default_rng(0)
    positive = random.random(4000) < 0.5
    scans = random.random(4000) < 0.5
    # Of pictures the whole tells the truth, of scans the lesions do; and scans say more everywhere.
    whole = np.where(scans, 0.0, 2.0 * positive) + random.standard_normal(4000)
    lesions = np.where(scans, 2.0 * positive + 5.0, 0.0) + random.standard_normal(4000)
    outputs = np.stack([whole + lesions, lesions], axis=1)

    decision = decide(judged(outputs, positive, scans=scans), LESIONS)

    study = decision.reading(alone=False)
    assert study.slope / (study.slope + study.lesions) == pytest.approx(0.25)
    border = np.log(decision.threshold / (1 - decision.threshold))
    for rows, reading in ((~scans, decision), (scans, study)):
        said = reading.logits(outputs[rows]) >= border
        sensitivity, specificity = said[positive[rows]].mean(), (~said[~positive[rows]]).mean()
        # The border lies halfway between sick and healthy, so both are called right alike often.
        assert sensitivity == pytest.approx(specificity, abs=0.15)
    assert auc(study.logits(outputs[scans]), positive[scans]) > auc(outputs[scans, 0], positive[scans])


def test_a_network_without_lesion_head_reads_all_alike(decide: Any) -> None:
    random = np.random.default_rng(0)
    positive = np.arange(200) % 2 == 0
    outputs = (2.0 * positive + random.standard_normal(200))[:, np.newaxis]

    decision = decide(judged(outputs, positive, scans=np.arange(200) % 3 == 0), Recipe(name="plain"))

    assert decision.study is None


def test_painted_slices_do_not_calibrate_pictures(decide: Any) -> None:
    random = np.random.default_rng(0)
    positive = np.arange(400) % 2 == 0
    outputs = np.stack([2.0 * positive + random.standard_normal(400), np.zeros(400)], axis=1)
    plain = judged(outputs, positive, scans=np.zeros(400, bool))
    painted = [replace(case, painted=True, positive=True) for case in plain.cases[:100]]
    both = replace(
        plain,
        cases=[*plain.cases, *painted],
        outputs=np.concatenate([outputs, outputs[:100] - 50]),
        class_maps=np.ones((500, 2, 2), np.float32),
    )

    alone, with_painted = decide(plain, LESIONS), decide(both, LESIONS)

    assert (alone.slope, alone.intercept) == (with_painted.slope, with_painted.intercept)


def test_of_pictures_of_several_sources_the_whole_counts_as_much_as_it_tells(decide: Any) -> None:
    random = np.random.default_rng(0)
    positive, scans = random.random(4000) < 0.5, np.zeros(4000, np.bool_)
    truth = np.where(positive, 1.0, -1.0)
    lesions = 0.2 * truth + 2 * random.standard_normal(4000)
    whole = truth + random.standard_normal(4000)
    one = judged(np.stack([whole + lesions, lesions], axis=1), positive, scans=scans)
    cases = [
        replace(case, sample=replace(case.sample, source=f"hospital {row % 2}"))
        for row, case in enumerate(one.cases)
    ]

    known, unknown = decide(replace(one, cases=cases), LESIONS), decide(one, LESIONS)

    assert unknown.lesions == 0
    assert known.lesions == pytest.approx(known.slope * (1 - 4) / 4)  # the largest weight
    assert auc(known.logits(one.outputs), positive) > auc(unknown.logits(one.outputs), positive) + 0.1
