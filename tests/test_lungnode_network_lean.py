import numpy as np
import pytest

from lungnode.recipe import Network
from lungnode.runtime import load_tensorflow
from tests.fast_models import two_stage_recipe
from tests.training_data import small_recipe


@pytest.mark.parametrize("size", [64, 75, 107])
@pytest.mark.parametrize("spread", [True, False])
def test_the_lean_head_says_what_the_head_says(size: int, *, spread: bool) -> None:
    check(two_stage_recipe().network.model_copy(update={"spread": spread}), size)


@pytest.mark.parametrize("stages", [(1,), (1, 2)])
def test_a_head_without_cells_stays_as_it_is(stages: tuple[int, ...]) -> None:
    check(small_recipe().network.model_copy(update={"stages": stages}), 64)


def check(network: Network, size: int) -> None:
    load_tensorflow()
    import keras  # noqa: PLC0415

    from lungnode.network import add_lean_head, build_network, get_weights, set_weights  # noqa: PLC0415

    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    slices = random.integers(0, 256, (3, size, size, 1)).astype(np.float32)
    whole, lean = build_network(network, size), build_network(network, size, head=add_lean_head)
    set_weights(lean, get_weights(whole))

    for expected, found in zip(whole(slices), lean(slices), strict=True):
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(np.asarray(found) / scale, np.asarray(expected) / scale, atol=1e-4)
