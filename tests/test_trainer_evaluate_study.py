"""A study has the probability, the slices and the heatmaps that a worker reports."""

from pathlib import Path

import numpy as np
import pytest

from lungnode.loading import read_grays, read_images
from lungnode.model_folder import Decision
from lungnode.phantom import phantom_study
from lungnode.recipe import Recipe
from tests.toy_model import MeanGray
from tests.training_data import deep_recipe
from trainer.cache import Cache, StudyFiles
from trainer.cache_build import build_cache
from trainer.evaluate import evaluate
from trainer.samples import Sample
from worker.analysis import analyse
from worker.conduct import Conduct

DEEP = deep_recipe(lesion_cells=1)


@pytest.mark.parametrize("recipe", [MeanGray().recipe, DEEP], ids=["slice by slice", "with neighbours"])
def test_a_study_of_the_archive_is_judged_as_a_worker_judges_it(tmp_path: Path, recipe: Recipe) -> None:
    study = phantom_study(tmp_path / "study", slices=30, size=128)
    model = MeanGray(recipe, decision=Decision(study_offset=0.5, map_scale=0.7))
    reported, _ = analyse(read_images(study.paths).headers, read_grays, model, Conduct(lambda: 0.0))
    files, cache = StudyFiles(study.study_instance_uid, 1, study.paths, "ab"), Cache(tmp_path / "cache", None)
    (built,) = build_cache([files], cache, 1)
    assert built.study is not None
    samples = [
        Sample(
            "archive",
            cache.entry(files) / kept.name,
            positive=True,
            group="patient",
            study=files.study_instance_uid,
            position_mm=kept.position_mm,
        )
        for kept in built.study.slices
    ]

    found = evaluate(model, samples)

    assert found.studies is not None
    assert found.studies.scores == pytest.approx([reported.probability], abs=1e-6)
    assert found.slices.scores == pytest.approx([each.probability for each in reported.slices], abs=1e-6)
    for located, each in zip(found.located, reported.slices, strict=True):
        assert located.box == each.box
        np.testing.assert_allclose(located.class_map, each.class_map, atol=1e-6)
