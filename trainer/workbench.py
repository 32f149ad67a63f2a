"""What trains a recipe: epochs of steps, or an exact fit of the head. Imports TensorFlow."""

from pathlib import Path

from lungnode.recipe import Recipe
from trainer.bench import Bench, choose_strategy, first_network, with_init
from trainer.probe import Probe
from trainer.progress import Progress

Workbench = Bench | Probe


def open_bench(recipe: Recipe, cache: Path, progress: Progress, first: Path | None = None) -> Workbench:
    """Build the network of a recipe on the devices of this machine, and what its training needs.

    Args:
        recipe: Of the training.
        cache: Folder of all stores of features.
        progress: Hears what is done.
        first: File of the first weights, instead of the recipe's.

    Raises:
        UnusableError: The first weights cannot be used.
        UnavailableError: The cache cannot be used.
    """
    named = with_init(recipe, first) if first else recipe
    strategy = choose_strategy()
    with strategy.scope():
        network = first_network(named)
    if recipe.training.optimizer == "exact":
        return Probe(recipe, network, cache, progress)
    return Bench(recipe, network, cache, progress, strategy)
