"""The shipped model, loaded once."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lungnode.errors import UnusableError
from lungnode.logits import to_probabilities
from lungnode.model_folder import IDENTITY, SHIPPED_MODEL, WEIGHTS_FILE, describe_model
from lungnode.recipe import Network
from lungnode.runtime import Model, Slices, load_model
from lungnode.weights_file import read_weights, write_weights

SIZE = 299
MAX_WEIGHTS_BYTES = 50_000_000


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(batch=3)


@pytest.fixture(scope="module")
def slices() -> Slices:
    return np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE)).astype(np.uint8)


def test_a_model_is_described_without_loading_tensorflow() -> None:
    code = (
        "import sys; from lungnode.model_folder import SHIPPED_MODEL, describe_model;"
        "describe_model(SHIPPED_MODEL); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_digest_is_what_sha256sum_says_of_the_files_that_decide_a_result(model: Model) -> None:
    listed = subprocess.run(["sha256sum", *IDENTITY], cwd=SHIPPED_MODEL, capture_output=True, check=True)

    assert model.info.digest == hashlib.sha256(listed.stdout).hexdigest()
    assert (SHIPPED_MODEL / WEIGHTS_FILE).stat().st_size <= MAX_WEIGHTS_BYTES


def test_the_probability_of_a_scans_slice_is_that_of_the_highest_cells_of_its_map(
    model: Model, slices: Slices
) -> None:
    probabilities, class_maps = model.predict(slices)

    reading, cells = model.info.decision.reading(alone=False), model.info.recipe.network.lesion_cells
    assert reading.slope == 0  # of the whole
    highest = np.sort(class_maps.reshape(len(slices), -1), axis=1)[:, -cells:]
    logits = highest.mean(axis=1) + reading.intercept
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_a_slice_has_the_same_probability_alone_in_any_batch_and_in_any_order(
    model: Model, slices: Slices
) -> None:
    together, _ = model.predict(slices)

    alone = np.concatenate([model.predict(slices[index : index + 1])[0] for index in range(len(slices))])
    reverse, _ = model.predict(slices[::-1].copy())
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(reverse[::-1], together, atol=1e-5)


def test_the_same_slices_give_the_same_bits(model: Model, slices: Slices) -> None:
    first, second = model.predict(slices), model.predict(slices)

    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_no_slices_give_no_probabilities(model: Model) -> None:
    probabilities, class_maps = model.predict(np.zeros((0, SIZE, SIZE), np.uint8))

    assert (len(probabilities), len(class_maps)) == (0, 0)


def test_slices_of_another_size_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match=r"uint8 of \(n, 299, 299\), got uint8 \(1, 64, 64\)"):
        model.predict(np.zeros((1, 64, 64), np.uint8))


def test_the_figures_of_the_card_are_those_that_were_measured() -> None:
    card = (SHIPPED_MODEL / "README.md").read_text(encoding="utf-8")
    metrics = json.loads((SHIPPED_MODEL / "metrics.json").read_text(encoding="utf-8"))

    assert "esearch use only" in card
    assert len(metrics["evaluations"]) > 1
    for title, figures in metrics["evaluations"].items():
        assert f"| {title} | {figures['n']} | {figures['acc']:.3f}" in card


def test_the_licence_of_the_initial_weights_lies_beside_the_model(shared_data: Path) -> None:
    name = "resnet50-imagenet.LICENSE.txt"

    assert (SHIPPED_MODEL / name).read_bytes() == (shared_data / "weights" / name).read_bytes()


def test_a_model_folder_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("recipe.json", "model.json"):
        shutil.copy(SHIPPED_MODEL / name, tmp_path)

    with pytest.raises(UnusableError, match=r"weights\.safetensors cannot be read: No such file"):
        describe_model(tmp_path)


def test_a_recipe_with_an_unknown_field_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"name": "x", "training": {"colour": 1}}')

    with pytest.raises(UnusableError, match=r"recipe\.json cannot be used: there is no key training\.colour"):
        describe_model(tmp_path)


def test_weights_that_are_damaged_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("recipe.json", "model.json"):
        shutil.copy(SHIPPED_MODEL / name, tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"not weights")

    with pytest.raises(UnusableError, match=r"weights\.safetensors cannot be read"):
        load_model(tmp_path)


def test_weights_that_are_of_another_topology_than_the_recipe_are_refused(tmp_path: Path) -> None:
    for name in ("recipe.json", "model.json"):
        shutil.copy(SHIPPED_MODEL / name, tmp_path)
    weights = read_weights(SHIPPED_MODEL / WEIGHTS_FILE).weights
    # All the names and shapes of v1.5 would be there.
    write_weights(weights, Network(topology="v1"), tmp_path / WEIGHTS_FILE)

    with pytest.raises(UnusableError, match=r"are of resnet50 v1, its recipe says resnet50 v1\.5"):
        load_model(tmp_path)


def test_weights_of_other_stages_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("recipe.json", "model.json"):
        shutil.copy(SHIPPED_MODEL / name, tmp_path)
    write_weights({}, Network(topology="v1.5"), tmp_path / WEIGHTS_FILE)

    with pytest.raises(UnusableError, match=r"do not fit the network: .*conv1\.weight"):
        load_model(tmp_path)


def test_large_logits_do_not_overflow() -> None:
    assert to_probabilities(np.array([-1000, 0, 1000], np.float32)).tolist() == [0, 0.5, 1]
