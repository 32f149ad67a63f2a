"""In a training, too, the slices of a study are judged with their neighbours."""

from pathlib import Path

import numpy as np

from lungnode.depth import look_in_depth
from tests.training_data import deep_recipe
from trainer.features import Case
from trainer.neighbours import join_studies, stacks
from trainer.samples import Sample

RECIPE = deep_recipe(lesion_cells=2)


def case(study: str, position_mm: float | None, *, painted: bool = False) -> Case:
    sample = Sample("a", Path(), positive=False, group="p", study=study, position_mm=position_mm)
    return Case(sample, painted, (), (), painted)


def test_a_stack_has_the_slices_of_one_study_that_have_a_position() -> None:
    cases = [case("1", 3.0), case("2", 7.0), case("", 1.0), case("1", None), case("1", 0.0)]

    found = list(stacks((row, each.sample) for row, each in enumerate(cases)))

    assert found == [([0, 4], [3.0, 0.0]), ([1], [7.0])]


def test_neighbours_are_heard_but_for_painted_slices() -> None:
    cases = [case("1", 0.0), case("1", 2.0), case("1", 2.0, painted=True), case("", None)]
    random = np.random.default_rng(0)
    maps = random.standard_normal((4, 3, 3)).astype(np.float32)
    outputs = random.standard_normal((4, 2))
    deep, gains = look_in_depth(maps[:2], (0.0, 2.0), RECIPE)

    found, joined = join_studies(cases, maps, outputs, RECIPE)

    np.testing.assert_array_equal(found, np.concatenate([deep, maps[2:]]))
    np.testing.assert_allclose(joined[:2], outputs[:2] + gains[:, np.newaxis])
    np.testing.assert_array_equal(joined[2:], outputs[2:])
    assert gains.any()
