"""What an epoch visits: balanced as told, drawn anew for each epoch, and the same when it is done again."""

from pathlib import Path

import numpy as np
import pytest

from lungnode.recipe import Data, Recipe, Training
from trainer.features import Case, list_cases
from trainer.plan import balanced_weights, draw_epoch, draw_evaluation, dropout_seed, visit
from trainer.samples import Sample

RECIPE = Recipe(
    name="test",
    data=Data(positive_slices=2, negative_slices=3, painted=True),
    training=Training(augmentation=True, views=3),
)


def sample(source: str, name: str, positive: bool, study: str = "", healthy: bool = False) -> Sample:
    return Sample(
        source, Path(name), positive, name, None, study, healthy, digest=name.encode().hex().zfill(64)
    )


@pytest.fixture
def cases() -> list[Case]:
    alone = [sample("figures", f"f{n}", n % 2 == 0) for n in range(4)]
    sick = [sample("archive", f"s{n}", True, "1.2.3") for n in range(10)]
    healthy = [sample("archive", f"h{n}", False, "1.2.4", True) for n in range(10)]
    return list_cases([*alone, *sick, *healthy], RECIPE)


def test_sources_count_as_told_and_sick_and_healthy_alike_within_each() -> None:
    sources = ["a", "a", "a", "a", "b", "b", "c"]
    positive = np.array([True, False, False, False, True, False, False])

    weights = balanced_weights(sources, positive, {"a": 3.0, "b": 1.0, "c": 2.0})

    # By hand: a 3 + 3, b 1 + 1, c has one class only: 2; together 10 for 7 slices.
    expected = np.array([3, 1, 1, 1, 1, 1, 2]) * 7 / 10
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert balanced_weights(sources, positive, {}).tolist() == [1.0] * 7


def test_a_source_that_is_not_named_counts_one() -> None:
    weights = balanced_weights(["a", "b"], np.array([True, True]), {"a": 3.0})

    assert weights[0] == pytest.approx(3 * weights[1])


def test_an_epoch_draws_slices_of_studies_and_visits_pictures_that_stand_alone(cases: list[Case]) -> None:
    drawn = draw_epoch(cases, RECIPE, 1)

    names = [(draw.case.sample.path.name[0], draw.case.painted) for draw in drawn]
    assert sorted(names) == [
        *[("f", False)] * 4,
        *[("h", False)] * 3,
        *[("h", True)] * 3,
        *[("s", False)] * 2,
    ]
    assert all(draw.view in draw.case.views for draw in drawn)


def test_an_epoch_done_again_is_the_same_and_the_next_one_is_another(cases: list[Case]) -> None:
    first, again, other = (visit(draw_epoch(cases, RECIPE, epoch), {"figures": 1.0}) for epoch in (3, 3, 4))

    assert first.keys == again.keys
    assert first.weight.tolist() == again.weight.tolist()
    assert first.keys != other.keys
    assert dropout_seed(0, 3).tolist() == dropout_seed(0, 3).tolist() != dropout_seed(0, 4).tolist()


def test_every_view_of_a_case_is_visited_in_some_epoch_and_only_the_plain_one_is_evaluated(
    cases: list[Case],
) -> None:
    alone = cases[0]

    seen = {draw.view.key for epoch in range(30) for draw in draw_epoch([alone], RECIPE, epoch)}

    assert seen == {view.key for view in alone.views}
    assert len(seen) == 3
    assert [draw.view.view.genuine for draw in draw_evaluation([alone])] == [True]
