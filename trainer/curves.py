"""The curves of a training as a picture."""

from collections.abc import Sequence
from pathlib import Path

from trainer.checkpoint import EpochRecord


def draw_curves(history: Sequence[EpochRecord], best_epoch: int, path: Path) -> None:
    """Draw losses and validation figures by epoch, and mark the epoch that was kept."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - seconds, and only here
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever the machine is set to
    losses, figures = figure.subplots(1, 2)
    epochs = [record.epoch for record in history]
    losses.plot(epochs, [record.train_loss for record in history], label="training")
    losses.plot(epochs, [record.validation_loss for record in history], label="validation")
    figures.plot(epochs, [record.validation_acc for record in history], label="accuracy")
    figures.plot(epochs, [record.validation_auc for record in history], label="AUC")
    for axes, title in ((losses, "Loss"), (figures, "Validation")):
        axes.axvline(best_epoch, color="gray", linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set(title=title, xlabel="epoch")
        axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
