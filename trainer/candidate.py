"""The candidate: what a training hands over, as a model's folder."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lungnode.logits import to_probabilities
from lungnode.model_folder import (
    CARD_FILE,
    METRICS_FILE,
    WEIGHTS_FILE,
    Decision,
    Manifest,
    read_manifest,
    read_metrics,
    save_manifest,
)
from lungnode.network import Weights, write_weights
from lungnode.recipe import Recipe, read_recipe, save_recipe
from lungnode.runtime import load_model
from trainer.bench import Judged
from trainer.card import describe_samples, render_card
from trainer.decide import read_outputs
from trainer.document import document, figures
from trainer.evaluate import Scored, evaluate
from trainer.samples import Sample, Split


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


def measure_validation(folder: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    """Measure a model as a worker runs it on its validation data."""
    validation = [sample for sample in samples if sample.split is Split.VALIDATION]
    measured = document(evaluate(load_model(folder), validation))
    return {"validation (chose the epoch, the calibration and the threshold)": measured}


def measure_unseen(judged: Judged, decision: Decision) -> dict[str, Any]:
    """Measure what was said of patients by networks that had not seen them; the model has seen them all.

    Returns:
        Figures by title: of all samples and, where there are several sources, of each.
    """
    title = "cross-validation over the training's patients (chose the calibration and the threshold)"
    rows = [row for row, case in enumerate(judged.cases) if not case.painted]
    by_source: dict[str, list[int]] = {}
    for row in rows:
        by_source.setdefault(judged.cases[row].sample.source, []).append(row)
    parts = {title: rows}
    if len(by_source) > 1:
        parts |= {f"{source}, cross-validation": found for source, found in sorted(by_source.items())}
    return {name: _measure_rows(judged, found, decision) for name, found in parts.items()}


def _measure_rows(judged: Judged, rows: Sequence[int], decision: Decision) -> dict[str, Any]:
    samples = [judged.cases[row].sample for row in rows]
    logits = read_outputs(judged.outputs[list(rows)], samples, decision)
    scored = Scored(
        tuple(str(sample.path) for sample in samples),
        tuple(sample.group for sample in samples),
        np.array([sample.positive for sample in samples]),
        to_probabilities(logits),
        np.arange(len(samples)),
    )
    return figures(scored, decision.threshold)


def describe_candidate(
    folder: Path, manifest: Manifest, recipe: Recipe, samples: Sequence[Sample], metrics: Mapping[str, Any]
) -> None:
    """Write a model's figures and its card.

    Args:
        folder: The model's.
        manifest: Of the model.
        recipe: Of the model.
        samples: Of the training.
        metrics: What was measured, under `evaluations`, and what the training says of itself.
    """
    told = {**metrics, "samples": describe_samples(samples)}
    _write_figures(folder, manifest, recipe, told)


def add_figures(
    folder: Path, evaluations: Mapping[str, Mapping[str, Any]], notes: Sequence[str] = ()
) -> None:
    """Add what was measured elsewhere to a model's figures and its card; its identity stays as it is.

    Args:
        folder: The model's.
        evaluations: Figures by title; one of a title that is there takes its place.
        notes: Sentences of what they cannot say.

    Raises:
        UnusableError: It is no model's folder.
    """
    metrics = read_metrics(folder)
    told = {
        **metrics,
        "evaluations": {**metrics.get("evaluations", {}), **evaluations},
        "notes": [*dict.fromkeys([*metrics.get("notes", ()), *notes])],
    }
    _write_figures(folder, read_manifest(folder), read_recipe(folder), told)


def _write_figures(folder: Path, manifest: Manifest, recipe: Recipe, told: Mapping[str, Any]) -> None:
    (folder / METRICS_FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(render_card(recipe, manifest, told), encoding="utf-8")
