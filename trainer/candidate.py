"""The candidate: what a training hands over, as a model's folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lungnode.model_folder import CARD_FILE, METRICS_FILE, WEIGHTS_FILE, Manifest, save_manifest
from lungnode.network import Weights, write_weights
from lungnode.recipe import Recipe, save_recipe
from lungnode.runtime import load_model
from trainer.card import describe_samples, render_card
from trainer.document import document
from trainer.evaluate import evaluate
from trainer.samples import Sample, Split

SHOWN_SLICES: Final = 200  # on which the heatmap's scale is measured


def write_candidate(
    folder: Path, manifest: Manifest, recipe: Recipe, weights: Weights, licenses: Sequence[Path]
) -> None:
    """Write a model's folder, all but its figures and card.

    Raises:
        UnusableError: The training has diverged.
    """
    folder.mkdir()
    write_weights(weights, recipe.network, folder / WEIGHTS_FILE)
    save_recipe(recipe, folder)
    save_manifest(manifest, folder)
    for path in licenses:
        shutil.copyfile(path, folder / path.name)


def describe_candidate(
    folder: Path, manifest: Manifest, recipe: Recipe, samples: Sequence[Sample], told: Mapping[str, Any]
) -> None:
    """Measure a model as a worker runs it on its validation data, and write figures and card.

    Args:
        folder: The model's.
        manifest: Of the model.
        recipe: Of the model.
        samples: Of the training.
        told: What the training says of itself: epochs, hours.
    """
    validation = [sample for sample in samples if sample.split is Split.VALIDATION]
    measured = document(evaluate(load_model(folder), validation))
    metrics = {
        "evaluations": {"validation (chose the epoch, the calibration and the threshold)": measured},
        "samples": describe_samples(samples),
        "training": dict(told),
    }
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(render_card(recipe, manifest, metrics), encoding="utf-8")
