"""The figures of a report as SVG that follows the page's colours, light or dark.

Matplotlib draws with stand-in colours; they are replaced by the page's variables afterwards.
"""

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lungnode.logits import to_probabilities
from lungnode.roc import roc
from trainer.bootstrap import roc_band
from trainer.calibration import Reliability, reliability
from trainer.document import SEED, Level, scored
from trainer.evaluate import Evaluation, Scored
from trainer.localization import Localization
from trainer.metrics import confusion
from trainer.report_tables import patients_of
from trainer.samples import Sample, Split

INK: Final = "#010203"
SOFT: Final = "#010204"
SERIES: Final = ("#010211", "#010212", "#010213", "#010214", "#010215", "#010216")
_VARIABLES: Final = {INK: "--ink", SOFT: "--soft"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES, 1)
}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lungnode",  # the same figure has the same text, however often it is drawn
    "font.size": 10,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.parse_math": False,
}
GRID: Final = np.linspace(0, 1, 101)  # false positive rates at which the band is drawn
SIZE: Final = (4.6, 3.6)  # inches; letters stay readable on a phone


def distribution(samples: Sequence[Sample]) -> str:
    """Figure 5: patients by split, source and label."""
    splits: list[Split | None] = [None, *Split]
    keys = sorted({(splits.index(sample.split), sample.source) for sample in samples})
    parts = [
        patients_of(sample for sample in samples if (splits.index(sample.split), sample.source) == key)
        for key in keys
    ]
    names = [f"{splits[number] or 'all'}: {source}" for number, source in keys]
    sick = [sum(patient.positive for patient in part) for part in parts]
    clear = [len(part) - positive for part, positive in zip(parts, sick, strict=True)]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes((SIZE[0], 1.3 + 0.4 * len(keys)))
        axes.barh(names, clear, color=SERIES[0], label="non-COVID-19")
        axes.barh(names, sick, left=clear, color=SERIES[1], label="COVID-19")
        axes.invert_yaxis()
        axes.set_xlabel("patients")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
        return _svg(figure)


def roc_curves(evaluations: Sequence[Evaluation], names: Sequence[str], level: Level) -> str:
    """Figure 6: the ROC curve of each model with its 95 % band and its working point."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(SIZE)
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
        for number, (evaluation, name) in enumerate(zip(evaluations, names, strict=True)):
            _roc(
                axes,
                scored(evaluation, level),
                evaluation.info.threshold,
                (name, SERIES[number % len(SERIES)]),
            )
        axes.set_xlabel("1 - specificity")
        axes.set_ylabel("sensitivity")
        axes.legend(loc="lower right")
        return _svg(figure)


def _roc(axes: Axes, found: Scored, threshold: float, drawn: tuple[str, str]) -> None:
    name, color = drawn
    curve = roc(found.scores, found.labels)
    low, high = roc_band(found.scores, found.labels, found.groups, GRID, SEED)
    of = confusion(found.scores, found.labels, threshold)
    axes.fill_between(GRID, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(curve.false_positive_rate, curve.sensitivity, color=color, label=name)
    axes.plot(of.fp / (of.fp + of.tn), of.tp / (of.tp + of.fn), "o", color=color)


def histogram(found: Scored, threshold: float) -> str:
    """Probabilities by label, with the threshold."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(SIZE)
        parts = [found.scores[~found.labels], found.scores[found.labels]]
        names = ["non-COVID-19", "COVID-19"]
        axes.hist(parts, np.linspace(0, 1, 21).tolist(), stacked=True, color=SERIES[:2], label=names)
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--", label="threshold")
        axes.set_xlabel("probability")
        axes.set_ylabel("count")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1)
        return _svg(figure)


def reliability_plot(evaluation: Evaluation) -> str:
    """What came true of the slices' probabilities, before calibration and after."""
    labels = evaluation.slices.labels
    before = reliability(to_probabilities(evaluation.logits()), labels)
    after = reliability(evaluation.slices.scores, labels)
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(SIZE)
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
        _bins(axes, before, ("before", SERIES[0]))
        _bins(axes, after, ("calibrated", SERIES[1]))
        axes.set_xlabel("mean probability")
        axes.set_ylabel("share of COVID-19")
        axes.legend(loc="upper left")
        return _svg(figure)


def _bins(axes: Axes, found: Reliability, drawn: tuple[str, str]) -> None:
    name, color = drawn
    axes.plot(found.predicted, found.observed, color=color, linewidth=1, label=f"{name}, ECE {found.ece:.3f}")
    # The area of a dot is the bin's share of the slices.
    axes.scatter(found.predicted, found.observed, 300 * found.counts / found.counts.sum(), color=color)


def shares(found: Localization) -> str:
    """Share of each infected slice's activation that lies in the lung."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(SIZE)
        parts, names = [found.inside, found.closed], ["lung mask", "and its bays"]
        axes.hist(parts, np.linspace(0, 1, 21).tolist(), color=SERIES[:2], label=names)
        axes.axvline(found.chance, color=INK, linewidth=1, linestyle=":", label="chance")
        axes.set_xlabel("share of the activation inside")
        axes.set_ylabel("infected slices")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1)
        return _svg(figure)


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(size, layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    """Return the figure as an SVG element whose colours are the page's."""
    written = StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    drawn = written.getvalue()
    element = drawn[drawn.index("<svg") :]
    for color, variable in _VARIABLES.items():
        element = re.sub(color, f"var({variable})", element)
    # The page decides how wide it is; the view box keeps the proportions.
    head, rest = element.split(">", 1)
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest
