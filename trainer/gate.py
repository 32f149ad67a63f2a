"""The gate: how far a fast runtime may be from the reference."""

from typing import Final

import numpy as np

from lungnode.runtime.record import Deviation
from trainer.evaluate import Evaluation
from trainer.metrics import auc

MOST_AUC: Final = 0.005  # that the area under the curve may differ by


def compare_runtimes(reference: Evaluation, fast: Evaluation) -> Deviation:
    """Measure how far a runtime is from the reference on the same samples, and judge it."""
    ours, theirs = fast.slices.scores, reference.slices.scores
    labels, threshold = reference.slices.labels, reference.info.threshold
    differences = np.abs(ours - theirs)
    both = bool(labels.any() and not labels.all())
    auc_difference = abs(auc(ours, labels) - auc(theirs, labels)) if both else None
    flips = 0
    if reference.studies is not None and fast.studies is not None:
        flips = _flips(reference.studies.scores, fast.studies.scores, threshold)
    objections = []
    if auc_difference is None:
        objections.append("one of the classes is missing, so there is no AUC")
    elif not auc_difference <= MOST_AUC:
        objections.append(f"the AUC differs by {auc_difference:.4f}, more than {MOST_AUC}")
    if flips:
        objections.append(f"{flips} studies are judged otherwise")
    return Deviation(
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        auc_difference=auc_difference,
        slice_flips=_flips(theirs, ours, threshold),
        study_flips=flips,
        objections=tuple(objections),
    )


def _flips(one: np.ndarray, other: np.ndarray, threshold: float) -> int:
    return int(((one >= threshold) != (other >= threshold)).sum())
