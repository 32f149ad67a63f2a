"""What an epoch visits, in which order, by which view, and how much each visit counts.

Everything is drawn from the seed and the number of the epoch, never from a generator that runs on: an epoch
that is done again after a kill is the same epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungnode.recipe import Recipe
from trainer.draws import draw_slices
from trainer.features import Case, Wanted

Weights = NDArray[np.float32]  # shape (n,), mean 1

_ORDER: Final = 1  # the streams of random numbers that one epoch draws from
_SLICES: Final = 2
_DROPOUT: Final = 3


@dataclass(frozen=True)
class Draw:
    """A case, and by which view it is visited."""

    case: Case
    view: Wanted


@dataclass(frozen=True)
class Visits:
    """Examples in their order, with what is learnt of them."""

    keys: tuple[str, ...]
    positive: NDArray[np.float32]  # shape (n,), 0 or 1
    weight: Weights


def draw_epoch(cases: Sequence[Case], recipe: Recipe, epoch: int) -> list[Draw]:
    """Draw an epoch: of each study some slices, each case once, by one of its views, in a new order."""
    random = np.random.default_rng((recipe.training.seed, epoch, _ORDER))
    drawn = _draw_slices(cases, recipe, epoch)
    order = (drawn[position] for position in random.permutation(len(drawn)))
    return [Draw(case, case.views[random.integers(len(case.views))]) for case in order]


def draw_evaluation(cases: Sequence[Case], *, all_ways: bool = False) -> list[Draw]:
    """Visit each case as it is, in the order given: in its first way, or in all ways one after the other."""
    return [Draw(case, view) for case in cases for view in case.judged[: None if all_ways else 1]]


def visit(draws: Sequence[Draw], source_weights: Mapping[str, float]) -> Visits:
    """Return what is learnt of the examples drawn, and how much each counts."""
    positive = np.array([draw.case.positive for draw in draws], np.float32)
    weight = balanced_weights([draw.case.sample.source for draw in draws], positive > 0, source_weights)
    return Visits(tuple(draw.view.key for draw in draws), positive, weight)


def dropout_seed(seed: int, epoch: int) -> NDArray[np.uint32]:
    """Return the state that a layer's seed generator has at the begin of an epoch."""
    state = np.random.default_rng((seed, epoch, _DROPOUT)).integers(2**32, size=2, dtype=np.uint32)
    return state * np.array([1, 0], np.uint32)  # the second number counts the steps


def _draw_slices(cases: Sequence[Case], recipe: Recipe, epoch: int) -> list[Case]:
    """Keep every picture that stands alone, and of each study as many slices as the recipe says."""
    random = np.random.default_rng((recipe.training.seed, epoch, _SLICES))
    samples = [case.sample for case in cases if not case.painted]
    drawn = draw_slices(samples, recipe.data.positive_slices, recipe.data.negative_slices, random)
    chosen = {id(sample) for sample in drawn}
    return [case for case in cases if id(case.sample) in chosen]


def balanced_weights(
    sources: Sequence[str], positive: NDArray[np.bool_], source_weights: Mapping[str, float]
) -> Weights:
    """Weigh slices so that each source counts as told, and sick and healthy ones count alike within it.

    A source that has only one of both counts half. Without `source_weights` each slice counts alike.
    """
    weights = np.ones(len(sources))
    if source_weights and len(sources):
        names = np.asarray(sources)
        for source in np.unique(names):
            for label in (True, False):
                chosen = (names == source) & (positive == label)
                weights[chosen] = source_weights.get(str(source), 1.0) / max(1, chosen.sum())
        weights /= weights.mean()
    return weights.astype(np.float32)
