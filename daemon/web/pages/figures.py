"""What was measured of models: the figures of their folders, and curves on this node's labelled studies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from daemon.web.charts import Axes, Line, lines
from lungnode.errors import UnusableError
from lungnode.model_folder import read_metrics
from lungnode.roc import Curve, roc

NAMES: Final = {"auc": "AUC", "sens": "Sensitivity", "spe": "Specificity", "acc": "Accuracy", "f1": "F1"}
_AXES: Final = Axes(
    (0, 1),
    (0, 1),
    ((0, "0"), (0.5, "1 - specificity"), (1, "1")),
    ((0, "0"), (0.5, "0.5"), (1, "1")),
    height=300,
)
_CHANCE: Final = 3  # number of a line that is drawn quietly


@dataclass(frozen=True)
class Figures:
    """One evaluation of a model."""

    title: str
    values: dict[str, Any]

    @property
    def cells(self) -> list[tuple[float | None, list[float | None]]]:
        """Each figure with its 95 % interval, in the order of NAMES."""
        bounds = self.values.get("confidence_intervals") or {}
        return [(self.values.get(name), bounds.get(name) or [None, None]) for name in NAMES]

    @property
    def working_point(self) -> tuple[float, float] | None:
        """Where the threshold lies on the curve."""
        sens, spe = self.values.get("sens"), self.values.get("spe")
        return None if sens is None or spe is None else (1 - spe, sens)


@dataclass(frozen=True)
class Shown:
    """A model as the page shows it."""

    known: dict[str, Any]  # see db.known_models
    evaluations: tuple[Figures, ...] = field(default=())

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.known['name']}-{self.known['version']}"

    @property
    def first(self) -> Figures | None:
        """The evaluation that is shown beside other models'."""
        return next(iter(self.evaluations), None)


def shown(known: dict[str, Any]) -> Shown:
    """Return a model with what its folder says of it; one without figures has none."""
    if known["problem"]:
        return Shown(known)
    try:
        measured = read_metrics(Path(known["path"])).get("evaluations")
    except UnusableError:
        return Shown(known)
    titled = measured.items() if isinstance(measured, dict) else ()
    return Shown(known, tuple(Figures(title, values) for title, values in titled if isinstance(values, dict)))


def stored_curves(models: Sequence[Shown]) -> tuple[Markup, list[str]]:
    """Draw the ROC curves that models brought along, and the working point of each; and name them."""
    curves = list(_curves(models))
    told = "; ".join(f"{each.name}: {each.dots[0][2]}" for each in curves if each.dots)
    return _drawn(curves, f"ROC curves. {told}"), [each.name for each in curves]


def _curves(models: Sequence[Shown]) -> Iterator[Line]:
    measured = [
        (each.name, first, point)
        for each in models
        if (first := each.first) and (point := first.working_point)
    ]
    for number, (name, first, (x, y)) in enumerate(measured[:_CHANCE]):
        points = [(float(a), float(b)) for a, b in first.values.get("roc") or ()]
        yield Line(name, points, number, [(x, y, f"sensitivity {y:.2f}, specificity {1 - x:.2f}")])


def node_curves(scores: Sequence[tuple[str, Sequence[tuple[float, bool]]]]) -> tuple[Markup, list[str]]:
    """Draw the ROC curves of models on this node's labelled studies; one needs studies of both kinds."""
    curves: list[Line] = []
    for name, found in scores:
        curve = _curve(found)
        if curve is not None:
            words = f"{name}, AUC {curve.area:.3f} ({len(found)} studies)"
            points = [(x, y) for x, y in curve.points()]
            curves.append(Line(words, points, len(curves)))
    names = [each.name for each in curves]
    return _drawn(curves, f"ROC curves on labelled studies. {'; '.join(names)}"), names


def _curve(found: Sequence[tuple[float, bool]]) -> Curve | None:
    labels = np.array([positive for _, positive in found], np.bool_)
    if not len(labels) or labels.all() or not labels.any():
        return None
    return roc(np.array([score for score, _ in found]), labels)


def _drawn(curves: Sequence[Line], told: str) -> Markup:
    return lines([Line("", ((0, 0), (1, 1)), _CHANCE), *curves], _AXES, told)
