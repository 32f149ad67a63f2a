"""The figures of a model card: held-out patients, left-out sources, two studies, file types."""

from dataclasses import asdict
from typing import Any, Final

import numpy as np

from lungnode.recipe import Recipe
from trainer.head import Values
from trainer.metrics import intervals, measure
from trainer.table import Calibration, Rows, Table, probability

STUDIES: Final = ("covid-P001", "normal-001")


def collect_figures(
    table: Table, held_out: Values, calibration: Calibration, recipe: Recipe, tested: tuple[str, ...]
) -> dict[str, Any]:
    """Return all figures; `held_out` are cross-validated logits before calibration."""
    logits = calibration.slope * held_out + calibration.intercept
    left_out = {source: _left_out(table, source, calibration, recipe) for source in tested}
    official = table.fit(~(table.validation & (table.sources == "covid-ct")), recipe)
    official_logits = calibration.slope * official.logits(table.features) + calibration.intercept
    chosen = {
        source: table.genuine & (table.sources == source) for source in np.unique(table.sources).tolist()
    }
    return {
        "cross_validation": {s: _figures(table, logits, rows, recipe) for s, rows in chosen.items()},
        "official_validation_list": _figures(
            table, official_logits, table.genuine & table.validation, recipe
        ),
        "left_out_source": {s: _figures(table, values, chosen[s], recipe) for s, values in left_out.items()},
        "studies_cross_validation": _studies(table, logits, recipe),
        "studies_left_out_source": _studies(table, left_out["covid-ct-md"], recipe),
        "painted_lesions_cross_validation": _figures(
            table, logits, (table.sources == "luna16") & _painted_or_genuine(table), recipe
        ),
        "healthy_share_called_positive_by_file_type": _by_file_type(table, logits, recipe),
    }


def _left_out(table: Table, source: str, calibration: Calibration, recipe: Recipe) -> Values:
    head = table.fit(table.sources != source, recipe)
    logits: Values = calibration.slope * head.logits(table.features) + calibration.intercept
    return logits


def _painted_or_genuine(table: Table) -> Rows:
    return table.genuine | table.labels


def _figures(table: Table, logits: Values, rows: Rows, recipe: Recipe) -> dict[str, Any]:
    scores = 0.5 * (1 + np.tanh(0.5 * logits[rows]))
    labels, groups = table.labels[rows], table.groups[rows].tolist()
    bounds = intervals(scores, labels, groups, recipe.threshold, recipe.seed)
    found = asdict(measure(scores, labels, recipe.threshold))
    return {
        "n": int(rows.sum()),
        "positive": int(labels.sum()),
        "groups": len(set(groups)),
        **{name: _plain(value) for name, value in found.items()},
        "confidence_intervals": {name: [_plain(low), _plain(high)] for name, (low, high) in bounds.items()},
    }


def _plain(value: float) -> float | None:
    """Round for the card; JSON has no NaN."""
    return None if np.isnan(value) else round(value, 3)


def _studies(table: Table, logits: Values, recipe: Recipe) -> dict[str, Any]:
    """Judge the two studies as a worker does."""
    found = {}
    for study in STUDIES:
        rows = table.genuine & np.char.startswith(table.groups, f"covid-ct-md/{study}/")
        values = np.sort(logits[rows])
        highest = values[-max(1, int(np.ceil(recipe.suspicious_share * len(values)))) :]
        found[study] = round(probability(float(highest.mean()) - recipe.study_offset), 3)
    return found


def _by_file_type(table: Table, logits: Values, recipe: Recipe) -> dict[str, Any]:
    """Say how often healthy COVID-CT images are called positive: the file type must not matter."""
    found = {}
    for file_type in (".png", ".jpg"):
        chosen = (
            table.genuine & (table.sources == "covid-ct") & (table.file_types == file_type) & ~table.labels
        )
        scores = 0.5 * (1 + np.tanh(0.5 * logits[chosen]))
        found[file_type] = round(float((scores >= recipe.threshold).mean()), 3) if chosen.any() else None
    return found
