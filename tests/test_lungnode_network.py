"""The network against an independent implementation, on random weights and on the real ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lungnode.recipe import Network
from tests.resnet_reference import random_weights, stage_maps

SIZE = 43


@pytest.fixture(scope="module")
def network() -> Any:
    import lungnode.network as module  # noqa: PLC0415 - TensorFlow takes seconds to import

    return module


@pytest.fixture(scope="module")
def gray() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)


def pooled(network: Any, weights: dict[str, NDArray[np.float32]], gray: NDArray[np.uint8], stage: int) -> Any:
    model = network.build_network(Network(topology="v1.5", stages=(stage,)), SIZE)
    extractor, _ = network.split_network(model, stage)
    network.set_weights(extractor, weights)
    maps = np.asarray(extractor(gray[np.newaxis, ..., np.newaxis].astype(np.float32), training=False))
    return maps[0].mean(axis=(0, 1))


@pytest.mark.parametrize("stage", [2, 4])
def test_a_stage_equals_an_independent_implementation(
    network: Any, gray: NDArray[np.uint8], stage: int
) -> None:
    weights = random_weights(seed=2)
    expected = stage_maps(gray, weights, stage)[-1].mean(axis=(1, 2))

    np.testing.assert_allclose(pooled(network, weights, gray, stage), expected, rtol=2e-3, atol=2e-3)


def test_the_initial_weights_fit_the_network(
    network: Any, gray: NDArray[np.uint8], shared_data: Path
) -> None:
    weights = dict(np.load(shared_data / "weights/resnet50-imagenet.npz"))
    expected = stage_maps(gray, weights)[-1].mean(axis=(1, 2))

    np.testing.assert_allclose(pooled(network, weights, gray, 4), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("stages", [(3,), (2, 3)])
def test_the_logit_is_the_mean_of_the_class_map(
    network: Any, gray: NDArray[np.uint8], stages: tuple[int, ...]
) -> None:
    model = network.build_network(Network(stages=stages), SIZE)

    maps, logits = model(gray[np.newaxis, ..., np.newaxis].astype(np.float32), training=False)

    np.testing.assert_allclose(np.asarray(maps).mean(axis=(1, 2)), np.asarray(logits), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stages", [(3,), (2, 3)])
@pytest.mark.parametrize("frozen", [0, 1, 2, 3, 4])
def test_the_two_parts_of_a_split_network_are_the_network(
    network: Any, gray: NDArray[np.uint8], stages: tuple[int, ...], frozen: int
) -> None:
    model = network.build_network(Network(stages=stages), SIZE)
    image = gray[np.newaxis, ..., np.newaxis].astype(np.float32)

    trunk, rest = network.split_network(model, frozen)

    for whole, part in zip(model(image), rest(trunk(image)), strict=True):
        np.testing.assert_allclose(np.asarray(part), np.asarray(whole), rtol=1e-5, atol=1e-6)
    shared = {id(variable) for variable in [*trunk.variables, *rest.variables]}
    assert shared == {id(variable) for variable in model.variables}


def test_weights_come_back_under_the_names_and_in_the_layout_they_were_set(network: Any) -> None:
    weights = random_weights(seed=5, last_stage=2)
    trunk, _ = network.split_network(network.build_network(Network(topology="v1.5", stages=(2,)), SIZE), 2)

    network.set_weights(trunk, weights)

    found = network.get_weights(trunk)
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)


def test_a_missing_weight_is_an_error(network: Any) -> None:
    with pytest.raises(KeyError, match=r"conv1\.bias"):
        network.set_weights(
            network.build_network(Network(stages=(1,)), SIZE), {"conv1.weight": np.zeros((64, 3, 7, 7))}
        )
