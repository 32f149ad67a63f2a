"""What a model says of slices and studies, with a model whose answer is the slice's mean gray."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from lungnode.errors import UnavailableError, UnusableError
from lungnode.model_folder import Decision
from lungnode.phantom import phantom_study
from lungnode.pixels import crop_box, hounsfield, lung_window, model_input
from lungnode.recipe import Input, Recipe, StudyRule
from tests.evaluated import chest, gray_slice, judged
from tests.toy_model import MeanGray
from trainer.document import document
from trainer.evaluate import evaluate, main_split, part
from trainer.located import close_lungs
from trainer.samples import Sample, Split


def sample(path: Path, *, positive: bool, study: str = "", split: Split | None = None) -> Sample:
    return Sample("unit", path, positive, f"patient of {path.stem}", split, study)


def test_each_slice_has_its_probability_label_and_patient(tmp_path: Path) -> None:
    grays = (51, 102, 204)
    samples = [sample(gray_slice(tmp_path, f"{g}.png", g), positive=g > 100) for g in grays]

    found = evaluate(MeanGray(batch=2), samples).slices

    assert found.scores == pytest.approx([0.2, 0.4, 0.8])
    assert found.labels.tolist() == [False, True, True]
    assert found.groups == ("patient of 51", "patient of 102", "patient of 204")
    assert found.names == tuple(str(tmp_path / f"{g}.png") for g in grays)


def test_a_picture_that_stands_alone_is_looked_at_in_every_way_and_the_mean_logit_counts(
    tmp_path: Path,
) -> None:
    pixels = np.full((80, 80), 51, np.uint8)
    pixels[:8] = pixels[-8:] = 204  # what the paper's crop cuts off, nearly
    alone = sample(gray_slice(tmp_path, "1.png", pixels), positive=True)
    recipes = [
        Input(size=32, crop="paper", views=views) for views in (("crop",), ("whole",), ("crop", "whole"))
    ]

    crop, whole, both = (
        evaluate(MeanGray(Recipe(name="toy", input=each)), [alone, replace(alone, study="1.2")]).slices.scores
        for each in recipes
    )

    logits = [np.log(p / (1 - p)) for p in (crop[0], whole[0])]
    assert crop[0] < whole[0]
    assert both[0] == pytest.approx(1 / (1 + np.exp(-np.mean(logits))), rel=1e-4)
    assert both[1] == pytest.approx(crop[0])  # in a study the first way only


def test_a_dicom_slice_takes_a_workers_path(tmp_path: Path) -> None:
    path = phantom_study(tmp_path, slices=12, size=256).paths[6]
    gray = lung_window(hounsfield(dcmread(path)))
    seen = model_input(gray, crop_box(gray, "lung"), 32)

    found = evaluate(MeanGray(), [sample(path, positive=False)])

    assert found.slices.scores == pytest.approx([seen.mean() / 255])


def test_a_study_is_judged_by_its_most_suspicious_slices_and_is_sick_with_one_sick_slice(
    tmp_path: Path,
) -> None:
    paths = [gray_slice(tmp_path, f"{g}.png", g) for g in (51, 102, 204, 25)]
    first = [sample(path, positive=path.stem == "102", study="1.1") for path in paths[:3]]
    second = sample(paths[3], positive=False, study="1.2")
    recipe = Recipe(name="toy", input=Input(size=32), study=StudyRule(suspicious_share=0.5))

    found = evaluate(MeanGray(recipe, Decision(study_offset=1.0)), [*first, second]).studies

    # The mean logit of the higher two of three, less the offset of 1.
    logit = (np.log(0.4 / 0.6) + np.log(0.8 / 0.2)) / 2 - 1
    assert found is not None
    assert found.names == ("1.1", "1.2")
    assert found.labels.tolist() == [True, False]
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-4)


def test_pictures_that_stand_alone_make_no_study(tmp_path: Path) -> None:
    found = evaluate(MeanGray(), [sample(gray_slice(tmp_path, "1.png", 9), positive=True)])

    assert found.studies is None
    with pytest.raises(UnusableError, match="study level"):
        document(found, "studies")


def test_the_logits_are_those_before_calibration(tmp_path: Path) -> None:
    decision = Decision(slope=2.0, intercept=-1.0)

    found = evaluate(MeanGray(decision=decision), [sample(gray_slice(tmp_path, "1.png", 204), positive=True)])

    assert found.logits() == pytest.approx([(np.log(0.8 / 0.2) + 1) / 2], rel=1e-4)


def test_a_map_that_knows_nothing_lies_in_the_lung_as_much_as_the_picture_does(tmp_path: Path) -> None:
    paths = [gray_slice(tmp_path, f"{name}.png", chest()) for name in ("sick", "healthy")]

    (found,) = evaluate(MeanGray(), [sample(path, positive=path.stem == "sick") for path in paths]).located

    assert found.index == 0
    assert 0.3 < found.lung < 0.7
    assert found.inside == pytest.approx(found.lung, abs=1e-6)
    assert found.closed >= found.inside


def test_a_lesion_in_the_lung_is_outside_the_mask_and_inside_the_closed_one() -> None:
    lesion = chest(lesion=220)
    lung = lesion < 100

    closed = close_lungs(lung)

    assert not lung[50:60, 40:50].any()
    assert closed[50:60, 40:50].all()
    assert not closed[:, 78:82].any()  # between the lungs
    assert not closed[:10].any()


def test_where_no_lung_is_seen_nothing_is_said_of_it(tmp_path: Path) -> None:
    (found,) = evaluate(MeanGray(), [sample(gray_slice(tmp_path, "1.png", 90), positive=True)]).located

    assert np.isnan([found.inside, found.closed]).all()


def test_one_split_can_be_looked_at_alone(tmp_path: Path) -> None:
    splits = {10: Split.TRAIN, 20: Split.TEST, 30: Split.TRAIN, 40: Split.TEST}
    samples = [
        sample(gray_slice(tmp_path, f"{g}.png", g), positive=g > 20, study=f"1.{g}", split=split)
        for g, split in splits.items()
    ]
    whole = evaluate(MeanGray(), samples)

    found = part(whole, Split.TEST)

    assert found.slices.scores * 255 == pytest.approx([20, 40])
    assert found.studies is not None
    assert found.studies.names == ("1.20", "1.40")
    assert [found.samples[each.index].path.stem for each in found.located] == ["40"]
    assert found.digest == evaluate(MeanGray(), [samples[1], samples[3]]).digest != whole.digest
    assert part(whole, None) is whole


def test_the_test_split_counts_and_else_the_validation_split(tmp_path: Path) -> None:
    def of(*splits: Split | None) -> Split | None:
        return main_split([sample(tmp_path, positive=True, split=split) for split in splits])

    assert of(Split.TRAIN, Split.TEST, Split.VALIDATION) is Split.TEST
    assert of(Split.TRAIN, Split.VALIDATION) is Split.VALIDATION
    assert of(Split.TRAIN, None) is None


def test_the_document_has_every_figure_and_knows_no_nan(tmp_path: Path) -> None:
    found = document(judged(tmp_path))

    assert (found["n"], found["positive"], found["groups"]) == (20, 10, 20)
    assert (found["sens"], found["spe"], found["acc"]) == (0.8, 1.0, 0.9)
    assert found["confusion"] == {"tp": 8, "fp": 0, "fn": 2, "tn": 10}
    assert found["auc"] == 1.0
    assert found["confidence_intervals"].keys() == {"acc", "sens", "spe", "iou", "f1", "auc"}
    assert found["threshold"] == 139 / 255
    assert found["model"] == f"mean gray 1 (sha256 {'cd' * 32})"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_one_class_alone_has_only_what_it_defines(tmp_path: Path) -> None:
    healthy = [sample(gray_slice(tmp_path, f"{g}.png", g), positive=False) for g in (10, 250)]

    found = document(evaluate(MeanGray(), healthy))

    assert (found["spe"], found["sens"], found["auc"]) == (0.5, None, None)
    assert found["confidence_intervals"]["auc"] == [None, None]
    json.dumps(found, allow_nan=False)


def test_a_damaged_picture_is_named_in_one_sentence(tmp_path: Path) -> None:
    path = gray_slice(tmp_path, "whole.png", 9)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(path.read_bytes()[:60])

    with pytest.raises(UnusableError, match=r"damaged\.png cannot be used"):
        evaluate(MeanGray(), [sample(path, positive=True), sample(damaged, positive=False)])


def test_a_missing_picture_is_away(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"absent\.png"):
        evaluate(MeanGray(), [sample(tmp_path / "absent.png", positive=True)])


def test_pictures_are_read_by_their_content_not_their_name(tmp_path: Path) -> None:
    path = tmp_path / "51%0.dcm.txt"
    Image.new("L", (40, 40), 51).save(path, "PNG")

    assert evaluate(MeanGray(), [sample(path, positive=True)]).slices.scores == pytest.approx([0.2])
