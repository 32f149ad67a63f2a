"""The networks against independent implementations, on random weights and on the real ones."""

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from lungnode.errors import UnusableError
from lungnode.recipe import Backbone, Network
from tests import googlenet_reference
from tests.resnet_reference import Arrays, random_weights, stage_maps

SIZE = 43
ALL = (1, 2, 3, 4)
Topology = Literal["v1", "v1.5"]
TOPOLOGIES: Final[tuple[Topology, ...]] = ("v1", "v1.5")


@pytest.fixture(scope="module")
def network() -> Any:
    import lungnode.network as module  # noqa: PLC0415 - TensorFlow takes seconds to import

    return module


@pytest.fixture(scope="module")
def gray() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)


def maps_of(network: Any, recipe: Network, weights: Arrays, gray: NDArray[np.uint8]) -> list[Any]:
    """Return the maps of the recipe's stages, two or more, for one image, channels first."""
    trunk, _ = network.split_network(network.build_network(recipe, len(gray)), 4)
    network.set_weights(trunk, weights)
    maps = trunk(gray[None, ..., None].astype(np.float32), training=False)
    return [np.asarray(each)[0].transpose(2, 0, 1) for each in maps]


def assert_equal_maps(found: list[Any], expected: list[Any]) -> None:
    """Compare maps by the scale of each."""
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3 * theirs.max())


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_stage_of_either_topology_equals_an_independent_implementation(
    network: Any, gray: NDArray[np.uint8], topology: Topology
) -> None:
    weights = random_weights(2, 4, topology)

    found = maps_of(network, Network(topology=topology, stages=ALL), weights, gray)

    assert_equal_maps(found, stage_maps(gray, weights, 4, topology))


def test_a_mix_up_of_topologies_would_show_in_nothing_but_the_values(
    network: Any, gray: NDArray[np.uint8]
) -> None:
    weights = random_weights(2, 2, "v1")

    first, second = (
        maps_of(network, Network(topology=topology, stages=(1, 2)), weights, gray)[1]
        for topology in TOPOLOGIES
    )

    assert first.shape == second.shape
    assert np.abs(first - second).mean() > 0.1 * first.mean()


def test_the_initial_weights_fit_the_network(
    network: Any, gray: NDArray[np.uint8], shared_data: Path
) -> None:
    weights = dict(np.load(shared_data / "weights/resnet50-imagenet.npz"))

    found = maps_of(network, Network(topology="v1.5", stages=ALL), weights, gray)

    assert_equal_maps(found, stage_maps(gray, weights))


def test_googlenet_equals_an_independent_implementation(network: Any, gray: NDArray[np.uint8]) -> None:
    weights = googlenet_reference.random_weights(seed=7)

    found = maps_of(network, Network(backbone="googlenet", stages=ALL), weights, gray)

    assert_equal_maps(found, googlenet_reference.stage_maps(gray, weights))


def test_googlenet_has_the_weights_and_the_sizes_of_its_papers_table_1(network: Any) -> None:
    model = network.build_network(Network(backbone="googlenet", stages=(1, 2, 3, 4)), 224)
    kernels = {name: value.size for name, value in network.get_weights(model).items() if value.ndim == 4}

    # The paper's counts of 4c and 5a contradict the channels of their rows, and others are rounded: the sum
    # is what it says, to a hundredth.
    modules = sum(size for name, size in kernels.items() if name.startswith("inception"))
    thousands = sum(row[-1] for row in googlenet_reference.TABLE_1.values())
    assert modules / 1024 == pytest.approx(thousands, rel=0.01)
    maps = [model.get_layer(f"stage{stage}").output.shape[1:] for stage in (1, 2, 3, 4)]
    assert maps == [(56, 56, 192), (28, 28, 480), (14, 14, 832), (7, 7, 1024)]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_logits_of_either_topology_equal_an_independent_implementation(
    network: Any, gray: NDArray[np.uint8], topology: Topology
) -> None:
    weights = random_weights(8, 2, topology)
    kernel = np.random.default_rng(9).standard_normal((2, 512, 1, 1)).astype(np.float32)
    weights |= {"class_map.weight": kernel, "class_map.bias": np.array([0.5, -0.5], np.float32)}
    model = network.build_network(Network(topology=topology, stages=(2,)), SIZE, findings=2)
    network.set_weights(model, weights)

    class_maps, logits = model(gray[None, ..., None].astype(np.float32), training=False)

    features = stage_maps(gray, weights, 2, topology)[-1]
    expected = np.einsum("cij,fc->ijf", features, kernel[..., 0, 0]) + weights["class_map.bias"]
    tolerance = 2e-3 * np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(class_maps)[0], expected, rtol=2e-3, atol=tolerance)
    np.testing.assert_allclose(
        np.asarray(logits)[0], expected.mean(axis=(0, 1)), rtol=2e-3, atol=tolerance / 10
    )


@pytest.mark.parametrize("backbone", ["resnet50", "vgg16", "googlenet"])
@pytest.mark.parametrize("stages", [(2,), (1, 2)])
def test_the_logit_is_the_mean_of_the_class_map(
    network: Any, gray: NDArray[np.uint8], stages: tuple[int, ...], backbone: Backbone
) -> None:
    model = network.build_network(Network(backbone=backbone, stages=stages), SIZE, findings=2)

    maps, logits = model(gray[None, ..., None].astype(np.float32), training=False)

    assert logits.shape == (1, 2)
    np.testing.assert_allclose(np.asarray(maps).mean(axis=(1, 2)), np.asarray(logits), rtol=1e-4, atol=1e-3)


def test_spread_and_lesion_head_add_what_they_say(network: Any, gray: NDArray[np.uint8]) -> None:
    import keras  # noqa: PLC0415 - see the fixture

    recipe = Network(topology="v1.5", stages=(2, 3), lesion_cells=3, lesion_channels=5, spread=True)
    model = network.build_network(recipe, SIZE, findings=2)
    whole = keras.Model(model.input, [*model.outputs, model.get_layer("dropout").input])
    weights = network.get_weights(model)

    maps, logits, features = (np.asarray(o)[0] for o in whole(gray[None, ..., None].astype(np.float32)))

    # Cells of 4 x 4 places of stage 2; those at the border are cut alike on both sides, the odd one below.
    side = features.shape[0]
    bounds = [slice(max(0, at), at + 4) for at in range(-((-side % 4) // 2), side, 4)]
    cells = np.array([[features[rows, columns].mean(axis=(0, 1)) for columns in bounds] for rows in bounds])
    cells = np.sqrt(cells)
    centred = cells - cells.mean(axis=(0, 1))
    hidden = centred @ weights["lesion_hidden.weight"][..., 0, 0].T + weights["lesion_hidden.bias"]
    lesions = hidden.clip(0) @ weights["lesion_map.weight"][..., 0, 0].T + weights["lesion_map.bias"]
    lung = cells @ weights["lung_map.weight"][..., 0, 0].T + weights["lung_map.bias"]
    lesions += lung.clip(max=0)
    highest = np.sort(lesions.reshape(-1, 2), axis=0)[-3:].mean(axis=0)
    mean, spread = features.mean(axis=(0, 1)), features.std(axis=(0, 1))
    linear = weights["class_map.weight"][..., 0, 0] @ mean + weights["class_map.bias"]
    linear += weights["spread.weight"][..., 0, 0] @ spread
    np.testing.assert_allclose(maps, lesions, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(logits, [*(linear + highest), *highest], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backbone", ["resnet50", "vgg16", "googlenet"])
@pytest.mark.parametrize("stages", [(2,), (1, 2)])
def test_the_two_parts_of_a_split_network_are_the_network(
    network: Any, gray: NDArray[np.uint8], stages: tuple[int, ...], backbone: Backbone
) -> None:
    model = network.build_network(Network(backbone=backbone, stages=stages), SIZE)
    image = gray[None, ..., None].astype(np.float32)
    expected = [np.asarray(output) for output in model(image)]

    for frozen in range(4):
        trunk, rest = network.split_network(model, frozen)
        for whole, part in zip(expected, rest(trunk(image)), strict=True):
            np.testing.assert_allclose(np.asarray(part), whole, rtol=1e-5, atol=1e-5)
        shared = {id(variable) for variable in [*trunk.variables, *rest.variables]}
        assert shared == {id(variable) for variable in model.variables}


def test_a_trunk_of_nothing_hands_over_its_input(network: Any, gray: NDArray[np.uint8]) -> None:
    trunk, _ = network.split_network(network.build_network(Network(stages=(1,)), SIZE), 0)
    image = gray[None, ..., None].astype(np.float32)

    assert np.array_equal(np.asarray(trunk(image)), image)


@pytest.mark.parametrize("backbone", ["resnet50", "vgg16", "googlenet"])
def test_stages_that_the_head_does_not_read_are_not_built(network: Any, backbone: Backbone) -> None:
    first, all_stages = (
        network.get_weights(network.build_network(Network(backbone=backbone, stages=stages), SIZE)).keys()
        for stages in ((1,), (2,))
    )

    assert first < all_stages


def test_weights_come_back_under_the_names_and_in_the_layout_they_were_set(network: Any) -> None:
    weights = random_weights(seed=5, last_stage=2)
    recipe = Network(topology="v1.5", stages=(2,))
    trunk, _ = network.split_network(network.build_network(recipe, SIZE), 2)

    network.set_weights(trunk, weights)

    found = network.get_weights(trunk)
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("backbone", ["resnet50", "vgg16", "googlenet"])
def test_a_file_of_weights_gives_the_same_logits_and_is_the_same_each_time(
    network: Any, gray: NDArray[np.uint8], tmp_path: Path, backbone: Backbone
) -> None:
    recipe = Network(backbone=backbone, stages=(1, 2))
    model, other = network.build_network(recipe, SIZE), network.build_network(recipe, SIZE)
    # Kernels as they come back from 16 bits: what is left is the file's doing.
    halved = {
        name: value.astype(np.float16).astype(np.float32) if value.ndim == 4 else value
        for name, value in network.get_weights(model).items()
    }
    network.set_weights(model, halved)
    for name in ("first", "second"):
        network.write_weights(network.get_weights(model), recipe, tmp_path / name)

    network.set_weights(other, load_file(tmp_path / "first"))

    image = gray[None, ..., None].astype(np.float32)
    (_, expected), (_, found) = model(image), other(image)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-5)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_statistics_beyond_16_bits_survive_a_file(network: Any, tmp_path: Path) -> None:
    weights = {"bn1.running_var": np.array([1e6, 2e-9], np.float32)}

    network.write_weights(weights, Network(), tmp_path / "weights")

    assert np.array_equal(load_file(tmp_path / "weights")["bn1.running_var"], weights["bn1.running_var"])


def test_weights_that_diverged_are_not_written(network: Any, tmp_path: Path) -> None:
    weights = {"conv1.weight": np.full((1, 1, 1, 1), 1e9, np.float32)}

    with pytest.raises(UnusableError, match=r"conv1\.weight are not all finite numbers"):
        network.write_weights(weights, Network(), tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_a_missing_weight_is_an_error(network: Any) -> None:
    with pytest.raises(KeyError, match=r"conv1\.bias"):
        network.set_weights(
            network.build_network(Network(stages=(1,)), SIZE), {"conv1.weight": np.zeros((64, 3, 7, 7))}
        )
