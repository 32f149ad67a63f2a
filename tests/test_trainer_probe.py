"""A head that is fitted exactly: what is said of it on the bench is what the network then says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungnode.depth import highest_cells, look_in_depth
from lungnode.model_folder import describe_model, read_metrics
from lungnode.recipe import Recipe
from lungnode.runtime import load_model, load_tensorflow
from tests.evaluated import chest, gray_slice
from tests.training_data import SIZE, deep_recipe, draw_slices, exact_recipe
from trainer.evaluate import evaluate
from trainer.manifest import read_manifest
from trainer.metrics import auc
from trainer.progress import Silence
from trainer.samples import Sample, Split


@pytest.fixture(scope="module")
def trainer() -> Any:
    load_tensorflow()
    import trainer.train as module  # noqa: PLC0415 - TensorFlow takes seconds to import

    return module


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return draw_slices(tmp_path_factory.mktemp("slices"), 32)


def fitted(trainer: Any, folder: Path, samples: list[Sample], recipe: Recipe) -> Any:
    from trainer.run_folder import RunInfo  # noqa: PLC0415 - TensorFlow

    run = trainer.begin(folder / "run", RunInfo(name="exact", version="1"), recipe, samples, Path())
    return trainer.train(run, samples, folder / "cache", Silence())


def test_the_model_says_of_pictures_what_was_said_of_them_on_the_bench(
    trainer: Any, samples: list[Sample], tmp_path: Path
) -> None:
    from trainer.bench import make_task  # noqa: PLC0415 - TensorFlow
    from trainer.features import list_cases  # noqa: PLC0415
    from trainer.workbench import open_bench  # noqa: PLC0415

    recipe = exact_recipe()
    model = fitted(trainer, tmp_path, samples, recipe)
    from trainer.run_folder import RunFolder  # noqa: PLC0415

    first = RunFolder(tmp_path / "run").first_weights
    bench = open_bench(recipe, tmp_path / "cache", Silence(), first)
    bench.fit(make_task(samples, recipe))

    _, outputs = bench.outputs(list_cases(samples, recipe, learnt=False))
    said = evaluate(load_model(model), samples)

    # Kernels are halved in the file, and the bench encodes as JPEG: the same but for that.
    expected = describe_model(model).decision.logits(outputs)
    probabilities = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(said.slices.scores, probabilities, atol=0.08)
    assert np.corrcoef(said.slices.scores, probabilities)[0, 1] > 0.98
    assert said.slices.labels.sum() == 16


def test_the_card_tells_of_patients_that_were_not_seen_and_the_run_of_none_that_were_held_back(
    trainer: Any, samples: list[Sample], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    guessed = [replace(sample, positive=bool(random.integers(2))) for sample in samples]

    model = fitted(trainer, tmp_path, guessed, exact_recipe())

    # Labels that mean nothing are learnt by heart: of what it learnt from, the model would be right.
    [(title, figures)] = read_metrics(model)["evaluations"].items()
    assert title.startswith("cross-validation")
    assert figures["n"] == len(samples)
    assert figures["acc"] < 0.75
    listed = read_manifest(tmp_path / "run/samples.csv")
    assert {sample.split for sample in listed} == {Split.TRAIN}


def test_the_card_tells_of_each_source_and_of_what_was_measured_elsewhere(
    trainer: Any, samples: list[Sample], tmp_path: Path
) -> None:
    two = [replace(sample, source=("here", "there")[row % 2]) for row, sample in enumerate(samples)]
    model = fitted(trainer, tmp_path, two, exact_recipe())
    from trainer.candidate import add_figures  # noqa: PLC0415 - TensorFlow

    digest, before = describe_model(model).digest, read_metrics(model)["evaluations"]
    add_figures(model, {"elsewhere": before["here, cross-validation"]}, ["One hospital."])
    add_figures(model, {"elsewhere": before["there, cross-validation"]}, ["One hospital."])

    after, card = read_metrics(model), (model / "README.md").read_text()
    assert list(after["evaluations"])[1:] == [
        "here, cross-validation",
        "there, cross-validation",
        "elsewhere",
    ]
    assert sum(before[f"{source}, cross-validation"]["n"] for source in ("here", "there")) == len(two)
    assert after["evaluations"]["elsewhere"] == before["there, cross-validation"]
    assert "| elsewhere |" in card
    assert card.count("- One hospital.") == 1
    assert describe_model(model).digest == digest


@pytest.mark.usefixtures("trainer")
def test_what_is_unseen_was_judged_by_heads_that_never_saw_its_patient(
    samples: list[Sample], tmp_path: Path
) -> None:
    from trainer.bench import make_task  # noqa: PLC0415 - TensorFlow
    from trainer.workbench import open_bench  # noqa: PLC0415

    recipe = exact_recipe()
    random = np.random.default_rng(0)
    guessed = [replace(sample, positive=bool(random.integers(2))) for sample in samples]
    bench = open_bench(recipe, tmp_path / "cache", Silence())
    task = make_task(guessed, recipe)
    bench.fit(task)

    judged = bench.unseen(task)

    # Labels that mean nothing can be learnt by heart, but not told of patients that were not seen.
    labels = np.array([case.positive for case in judged.cases])
    seen = bench.outputs(list(judged.cases))[1][:, 0]
    assert len(judged.cases) == len(samples)
    assert ((seen > 0) == labels).mean() > 0.9
    assert ((judged.outputs[:, 0] > 0) == labels).mean() < 0.75


@pytest.mark.usefixtures("trainer")
def test_slices_of_a_study_are_judged_with_their_neighbours(tmp_path: Path) -> None:
    from trainer.bench import make_task  # noqa: PLC0415 - TensorFlow
    from trainer.features import list_cases  # noqa: PLC0415
    from trainer.workbench import open_bench  # noqa: PLC0415

    recipe, random = deep_recipe(lesion_cells=2), np.random.default_rng(0)
    noisy = [chest(lesion=160 * (n % 2)) + random.integers(0, 20, (120, 160), np.uint8) for n in range(16)]
    paths = [gray_slice(tmp_path, f"{number}.png", gray) for number, gray in enumerate(noisy)]
    samples = [
        Sample("drawn", path, n % 2 == 1, f"patient {n}", Split.TRAIN, study="1.2", healthy_scan=n % 2 == 0)
        for n, path in enumerate(paths)
    ]
    bench = open_bench(recipe, tmp_path / "cache", Silence())
    bench.fit(make_task(samples, recipe))
    positions_mm = [2.0 * number for number in range(16)]
    placed = [replace(s, position_mm=at) for s, at in zip(samples, positions_mm, strict=True)]

    maps, apart = bench.outputs(list_cases(samples, recipe, learnt=False))
    _, together = bench.outputs(list_cases(placed, recipe, learnt=False))

    _, gains = look_in_depth(maps, positions_mm, recipe)
    assert np.abs(gains).max() > 0.01
    np.testing.assert_allclose(together, apart + gains[:, np.newaxis], atol=1e-5)


@pytest.mark.usefixtures("trainer")
def test_without_a_healthy_scan_the_lesion_head_says_nothing(samples: list[Sample], tmp_path: Path) -> None:
    from trainer.bench import make_task  # noqa: PLC0415 - TensorFlow
    from trainer.workbench import open_bench  # noqa: PLC0415

    recipe = exact_recipe(lesion_cells=2)
    bench = open_bench(recipe, tmp_path / "cache", Silence())
    task = make_task(samples, recipe)

    bench.fit(task)

    assert bench.unseen(task).outputs.shape == (32, 2)
    assert not bench.unseen(task).outputs[:, 1].any()
    assert recipe.network.lesion_cells <= SIZE // 32 * (SIZE // 32)


def test_cells_with_lesions_are_told_from_healthy_ones_and_from_what_is_no_lung() -> None:
    load_tensorflow()
    from trainer.lesions import choose_cells, fit_lesions, fit_lung, lesion_maps  # noqa: PLC0415

    random = np.random.default_rng(0)
    lungs = (random.random((600, 4, 5)) < 0.7).astype(np.float32)
    density = np.where((random.random((600, 4, 5)) < 0.3) & (lungs > 0), 0.5, 0.0).astype(np.float32)
    cells = random.standard_normal((600, 4, 5, 8)).astype(np.float16) * 3 + 15
    cells[density > 0, 2] += 12
    cells[lungs == 0, 2] += 14  # as bright as a lesion
    cells[lungs == 0, 5] += 14
    density[:100] = np.nan

    chosen = choose_cells(cells, density, lungs, seed=0)
    weights = fit_lesions(chosen, 64, seed=0) | fit_lung(cells, lungs, seed=0)
    again = fit_lesions(choose_cells(cells, density, lungs, seed=0), 64, seed=0)
    maps = lesion_maps(cells[500:], weights)

    assert maps.shape == (100, 4, 5)
    assert auc(maps.ravel().astype(np.float64), density[500:].ravel() > 0) > 0.95
    assert (maps[lungs[500:] == 0] < 0).mean() > 0.97
    assert all(np.array_equal(weights[name], again[name]) for name in again)
    assert highest_cells(maps, 2)[0] == pytest.approx(np.sort(maps[0].ravel())[-2:].mean())
