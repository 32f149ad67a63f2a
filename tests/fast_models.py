"""A small model with every part of the head, and what makes it fast."""

from pathlib import Path

import numpy as np

from lungnode.model_folder import Decision, Manifest
from lungnode.recipe import Recipe
from tests.training_data import exact_recipe


def two_stage_recipe() -> Recipe:
    """Return a recipe whose head reads two stages, their spread, and cells."""
    return exact_recipe(stages=[1, 2], frozen=2, lesion_cells=2, lesion_channels=4)


def write_small_model(folder: Path, threshold: float = 0.5) -> Path:
    """Write a model's folder with random weights, whose logits are of a few units."""
    from lungnode.network import get_weights  # noqa: PLC0415 - it imports TensorFlow
    from trainer.bench import first_network  # noqa: PLC0415 - the same
    from trainer.candidate import write_candidate  # noqa: PLC0415 - the same

    recipe = two_stage_recipe()
    weights = get_weights(first_network(recipe))
    for name in ("class_map.weight", "spread.weight", "lesion_hidden.weight", "lung_map.weight"):
        weights[name] = weights[name] * np.float32(0.01)
    decision = Decision(threshold=threshold)
    write_candidate(folder, Manifest(name="small", version="1", decision=decision), recipe, weights, [])
    return folder
