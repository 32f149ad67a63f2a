"""Two models' probabilities of the same studies, as a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.metrics import Scores

MARKS: Final = {"positive": "tab:red", "negative": "tab:blue", "": "tab:gray"}  # by label


@dataclass(frozen=True)
class Side:
    """One model."""

    name: str
    probabilities: Scores
    threshold: float


def draw_scatter(active: Side, shadow: Side, labels: list[str], path: Path) -> None:
    """Draw a point a study, in the colour of its label, and both thresholds, as PNG.

    Raises:
        OSError: It cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - seconds, and only here
    from matplotlib.figure import Figure  # noqa: PLC0415 - the same

    figure = Figure(figsize=(6, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for label, colour in MARKS.items():
        chosen = [index for index, each in enumerate(labels) if each == label]
        if chosen:
            points = active.probabilities[chosen], shadow.probabilities[chosen]
            axes.scatter(*points, s=14, c=colour, label=label or "not labelled")
    axes.axvline(active.threshold, color="black", linewidth=0.8)
    axes.axhline(shadow.threshold, color="black", linewidth=0.8)
    axes.plot([0, 1], [0, 1], color="lightgray", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=active.name, ylabel=f"{shadow.name} (shadow)")
    if labels:
        axes.legend(loc="upper left")
    figure.savefig(path)
