"""First weights: where they come from, and which are refused."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from lungnode.errors import UnusableError
from lungnode.model_folder import SHIPPED_MODEL, describe_model
from lungnode.recipe import Network, Recipe, save_recipe
from tests.resnet_reference import random_weights

# Keras copies variables in a way that NumPy 2 announces to drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

SIZE = 43
V1 = r"v1 \(Keras\)"
V15 = r"v1\.5 \(torchvision\)"


@pytest.fixture(scope="module")
def keras() -> Any:
    import keras as module  # noqa: PLC0415 - TensorFlow takes seconds to import

    return module


@pytest.fixture(scope="module")
def gray() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)


def started(network: Network, folder: Path = Path()) -> Any:
    """Build the network and give it its first weights."""
    from lungnode.network import build_network  # noqa: PLC0415 - TensorFlow takes seconds to import
    from trainer.initial import initialise  # noqa: PLC0415

    model = build_network(network, SIZE)
    initialise(model, network, folder)
    return model


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays under their names."""
    np.savez(path, **arrays)


def randomise(model: Any) -> None:
    """Give each weight of a Keras model a value of its own: its own start has biases of zero."""
    random = np.random.default_rng(3)
    for variable in model.variables:
        if len(variable.shape) == 4:
            value = random.standard_normal(variable.shape) * np.sqrt(2 / np.prod(variable.shape[:3]))
        else:
            value = random.uniform(0.5, 1.0, variable.shape)
        variable.assign(value.astype(np.float32))


def write_keras_2(model: Any, path: Path) -> None:
    """Write the layout of the files that Keras publishes: groups by layer, `weight_names` in their order."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, layer.weights, strict=True):
                group[name] = np.asarray(variable)


def write_nested(keras: Any, model: Any, path: Path) -> None:
    """Write Keras' layers as a model of another kind holds them: block by block, as edge detectors do."""
    blocks = [
        [layer for layer in model.layers if layer.name.startswith(f"block{block}_conv")]
        for block in range(1, 6)
    ]
    nested = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *(keras.Sequential(block) for block in blocks)])
    nested.save_weights(path)


@pytest.fixture(scope="module")
def keras_resnet(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """Keras' ResNet50 with weights of chance, and the file of them as Keras publishes it."""
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    randomise(model)
    folder = tmp_path_factory.mktemp("keras")
    write_keras_2(model, folder / "resnet50.h5")
    yield model, folder / "resnet50.h5"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def keras_vgg(keras: Any) -> Any:
    """Keras' VGG16 with weights of chance."""
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    randomise(model)
    return model


def outputs(
    keras: Any, model: Any, names: list[str], image: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Return what the named layers make of an image."""
    part = keras.Model(model.input, [model.get_layer(name).output for name in names])
    return [np.asarray(output) for output in part(image, training=False)]


def assert_equal_maps(keras: Any, theirs: tuple[Any, list[str]], ours: Any, gray: NDArray[np.uint8]) -> None:
    """Compare the map of every stage on one image, by each model's own normalisation."""
    colour = np.stack([gray] * 3, axis=-1)[None].astype(np.float32)
    # Keras' own normalisation, that of ResNet50 and VGG16; it writes into what it is given.
    normalised = keras.applications.imagenet_utils.preprocess_input(colour.copy(), mode="caffe")
    expected = outputs(keras, *theirs, normalised)
    stages = [f"stage{number}" for number in range(1, 5)]
    for found, map_ in zip(outputs(keras, ours, stages, colour[..., :1]), expected, strict=True):
        np.testing.assert_allclose(found, map_, rtol=1e-3, atol=1e-3 * np.abs(map_).max())


def test_topology_v1_equals_keras_own_resnet50_with_its_published_file(
    keras: Any, keras_resnet: tuple[Any, Path], gray: NDArray[np.uint8]
) -> None:
    theirs, path = keras_resnet

    ours = started(Network(init=str(path)))

    last = ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]
    assert_equal_maps(keras, (theirs, last), ours, gray)


@pytest.mark.parametrize("kind", ["vgg16.keras", "vgg16.weights.h5", "nested.weights.h5"])
def test_vgg16_equals_keras_own_from_each_of_its_files(
    keras: Any, keras_vgg: Any, gray: NDArray[np.uint8], tmp_path: Path, kind: str
) -> None:
    if kind.startswith("nested"):
        write_nested(keras, keras_vgg, tmp_path / kind)
    elif kind.endswith(".keras"):
        keras_vgg.save(tmp_path / kind)
    else:
        keras_vgg.save_weights(tmp_path / kind)

    ours = started(Network(backbone="vgg16", init=kind), tmp_path)

    last = ["block3_conv3", "block4_conv3", "block5_conv3", "block5_pool"]
    assert_equal_maps(keras, (keras_vgg, last), ours, gray)


def test_kerass_file_is_refused_for_torchvisions_topology(keras_resnet: tuple[Any, Path]) -> None:
    with pytest.raises(UnusableError, match=rf"resnet50\.h5 are of topology {V1}, .* network is {V15}"):
        started(Network(topology="v1.5", stages=(1,), init=str(keras_resnet[1])))


def test_torchvisions_names_are_refused_for_kerass_topology(tmp_path: Path) -> None:
    write_npz(tmp_path / "weights.npz", random_weights(1, 1))

    with pytest.raises(UnusableError, match=rf"weights\.npz are of topology {V15}, .* network is {V1}"):
        started(Network(stages=(1,), init="weights.npz"), tmp_path)


def test_torchvisions_file_is_taken_where_the_recipe_says_so(tmp_path: Path) -> None:
    from lungnode.network import get_weights  # noqa: PLC0415 - TensorFlow takes seconds to import

    weights = random_weights(1, 2)
    write_npz(tmp_path / "weights.npz", weights)

    found = get_weights(started(Network(topology="v1.5", stages=(1,), init="weights.npz"), tmp_path))

    assert all(np.array_equal(found[name], weights[name]) for name in found if name in weights)
    assert found.keys() - weights.keys() == {"class_map.weight", "class_map.bias"}


@pytest.mark.parametrize("stated", ["v1", "v1.5"])
def test_a_topology_that_a_file_states_is_believed(tmp_path: Path, stated: Any) -> None:
    write_npz(tmp_path / "weights.npz", {"topology": np.array(stated)} | random_weights(1, 1, stated))
    other: Any = {"v1": "v1.5", "v1.5": "v1"}[stated]

    started(Network(topology=stated, stages=(1,), init="weights.npz"), tmp_path)

    with pytest.raises(UnusableError, match="topology"):
        started(Network(topology=other, stages=(1,), init="weights.npz"), tmp_path)


def test_keras_own_weights_are_only_for_keras_own_topology() -> None:
    # VGG16 has the same shapes in both: it is the normalisation that would be wrong.
    with pytest.raises(UnusableError, match=rf"Keras' ImageNet weights are of topology {V1}"):
        started(Network(backbone="vgg16", topology="v1.5", stages=(1,), init="imagenet"))


def test_a_models_folder_is_refused_for_another_topology_than_its_recipes() -> None:
    with pytest.raises(UnusableError, match=rf"lungnode/model are of topology {V15}, .* network is {V1}"):
        started(Network(stages=(2, 3), init=str(SHIPPED_MODEL)))


def test_a_models_folder_gives_its_backbone_and_its_head() -> None:
    from safetensors.numpy import load_file  # noqa: PLC0415

    from lungnode.network import get_weights  # noqa: PLC0415 - TensorFlow takes seconds to import

    network = describe_model(SHIPPED_MODEL).recipe.network.model_copy(update={"init": str(SHIPPED_MODEL)})
    found = get_weights(started(network))

    shipped = load_file(SHIPPED_MODEL / "weights.safetensors")
    assert found.keys() == shipped.keys()
    assert all(np.array_equal(found[name], shipped[name].astype(np.float32)) for name in found)


def test_a_head_of_another_shape_stays_random() -> None:
    from lungnode.network import get_weights  # noqa: PLC0415 - TensorFlow takes seconds to import

    found = get_weights(started(Network(topology="v1.5", stages=(3,), init=str(SHIPPED_MODEL))))

    assert found["class_map.weight"].shape == (1, 1024, 1, 1)
    assert found["class_map.weight"].any()


def test_our_own_file_says_what_it_is_for_without_its_folder(tmp_path: Path) -> None:
    from lungnode.network import build_network, get_weights, write_weights  # noqa: PLC0415

    made = Network(backbone="googlenet", stages=(1,))
    model = build_network(made, SIZE)
    write_weights(get_weights(model), made, tmp_path / "lone.safetensors")

    found = get_weights(
        started(Network(backbone="googlenet", stages=(1,), init="lone.safetensors"), tmp_path)
    )

    for name, value in get_weights(model).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-6)
    for other in (
        Network(backbone="googlenet", topology="v1.5", stages=(1,), init="lone.safetensors"),
        Network(backbone="vgg16", stages=(1,), init="lone.safetensors"),
    ):
        with pytest.raises(UnusableError, match=r"lone\.safetensors are of (topology v1|googlenet)"):
            started(other, tmp_path)


def test_another_backbones_weights_are_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "weights.npz", random_weights(1, 1))

    with pytest.raises(UnusableError, match="are of resnet50, the recipe's network is vgg16"):
        started(Network(backbone="vgg16", topology="v1.5", stages=(1,), init="weights.npz"), tmp_path)


def test_a_file_of_fewer_stages_is_refused_by_the_weight_it_lacks(tmp_path: Path) -> None:
    write_npz(tmp_path / "weights.npz", random_weights(1, 1))

    with pytest.raises(
        UnusableError, match=r"layer2\.0\.conv1\.weight is \(128, 256, 1, 1\) .* they lack it"
    ):
        started(Network(topology="v1.5", stages=(2,), init="weights.npz"), tmp_path)


@pytest.mark.parametrize("name", ["x.npz", "x.h5", "x.keras", "x.safetensors"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights")

    with pytest.raises(UnusableError, match=rf"{name} cannot be read"):
        started(Network(stages=(1,), init=name), tmp_path)


def test_a_pickled_archive_is_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", weights=np.array([{"a": 1}], dtype=object))

    with pytest.raises(UnusableError, match=r"x\.npz cannot be read: Object arrays cannot be loaded"):
        started(Network(stages=(1,), init="x.npz"), tmp_path)


def test_a_file_that_is_not_there_or_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")

    with pytest.raises(UnusableError, match=r"no initial weights at .*missing\.npz"):
        started(Network(stages=(1,), init="missing.npz"), tmp_path)
    with pytest.raises(UnusableError, match=r"weights\.pt are of no known kind"):
        started(Network(stages=(1,), init="weights.pt"), tmp_path)


def test_another_keras_models_file_is_refused_by_its_layers(keras: Any, tmp_path: Path) -> None:
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")]).save_weights(
        tmp_path / "x.weights.h5"
    )

    with pytest.raises(UnusableError, match=r"no layer of Keras' resnet50; its layers: dense"):
        started(Network(stages=(1,), init="x.weights.h5"), tmp_path)


def test_without_a_network_the_file_to_fetch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.keras_weights import download  # noqa: PLC0415 - TensorFlow takes seconds to import

    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens on the discard port
    for name in ("no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(
        UnusableError, match=r"cannot be downloaded from https://.*resnet50_weights_.*_notop\.h5.*--init FILE"
    ):
        download("resnet50", tmp_path)
    assert not capsys.readouterr().out


def test_googlenet_has_no_published_weights() -> None:
    with pytest.raises(UnusableError, match="publishes no ImageNet weights of googlenet"):
        started(Network(backbone="googlenet", stages=(1,)))


def test_refused_weights_leave_the_model_as_it_was(tmp_path: Path) -> None:
    from lungnode.network import build_network, get_weights  # noqa: PLC0415
    from trainer.initial import initialise  # noqa: PLC0415 - TensorFlow takes seconds to import

    weights = random_weights(1, 1) | {"layer1.2.conv3.weight": np.zeros((1, 1, 1, 1), np.float32)}
    write_npz(tmp_path / "weights.npz", weights)
    network = Network(topology="v1.5", stages=(1,), init="weights.npz")
    model = build_network(network, SIZE)
    before = get_weights(model)

    with pytest.raises(UnusableError, match=r"layer1\.2\.conv3\.weight is .* they have \(1, 1, 1, 1\)"):
        initialise(model, network, tmp_path)

    assert all(np.array_equal(value, before[name]) for name, value in get_weights(model).items())


def test_random_weights_are_those_the_network_was_built_with(keras: Any) -> None:
    from lungnode.network import get_weights  # noqa: PLC0415 - TensorFlow takes seconds to import

    recipe = Network(stages=(1,), init="random")
    keras.utils.set_random_seed(5)
    first = get_weights(started(recipe))
    keras.utils.set_random_seed(5)
    second = get_weights(started(recipe))

    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("recipe_says", ["v1", "v1.5"])
def test_a_file_without_a_statement_is_judged_by_the_recipe_beside_it(
    tmp_path: Path, recipe_says: Any
) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415

    network = Network(topology=recipe_says, stages=(1,), init=".")
    save_file(random_weights(1, 1, recipe_says), tmp_path / "weights.safetensors")
    save_recipe(Recipe(name="made", network=network), tmp_path)

    started(network, tmp_path)

    other: Any = {"v1": "v1.5", "v1.5": "v1"}[recipe_says]
    with pytest.raises(UnusableError, match=f"network is {other}"):
        started(network.model_copy(update={"topology": other}), tmp_path)
