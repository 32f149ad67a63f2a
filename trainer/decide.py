"""From what a network says of slices that it did not learn from to how it is read from then on."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungnode.logits import to_logits
from lungnode.model_folder import Decision, Outputs, Reading
from lungnode.recipe import Recipe
from trainer.bench import Judged
from trainer.calibration import calibrate, map_scale, study_offset
from trainer.features import Case
from trainer.metrics import Scores, auc
from trainer.plan import balanced_weights
from trainer.samples import Sample

SHOWN_SLICES: Final = 200  # on which the heatmap's scale is measured
WHOLE_WEIGHTS: Final = (1.0, 1.5, 2.0, 3.0, 4.0)  # of pictures of several sources, times the recipe's
Rows = NDArray[np.bool_]  # shape (n,)


def decide(judged: Judged, recipe: Recipe) -> Decision:
    """Choose calibration, threshold, study rule and heatmap scale on unseen data alone.

    Raises:
        UnusableError: A class is missing.
    """
    labels = np.array([case.positive for case in judged.cases])
    rows = _pictures(judged.cases, labels)
    weights = _weights(judged.cases, labels, rows, recipe)
    mixed = _weigh_whole(judged, labels, rows)
    found = calibrate(mixed.logits(judged.outputs[rows]), labels[rows], weights)
    decision = found.model_copy(
        update={"slope": found.slope * mixed.slope, "lesions": found.slope * mixed.lesions}
    )
    study = _read_studies(judged, labels, decision, recipe)
    decision = decision.model_copy(update={"study": study})
    healthy = np.array([case.sample.healthy_scan and not case.painted for case in judged.cases])
    logits = decision.reading(alone=False).logits(judged.outputs[healthy])
    sick = judged.class_maps[labels][:: max(1, int(labels.sum()) // SHOWN_SLICES)]
    return decision.model_copy(
        update={
            "study_offset": study_offset(logits, recipe.study.suspicious_share, decision.threshold),
            "map_scale": map_scale(sick * np.float32(decision.reading(alone=False).map_slope)),
        }
    )


def read_outputs(outputs: Outputs, samples: Sequence[Sample], decision: Decision) -> Scores:
    """Return the calibrated logit of each sample, as a picture or as a slice of a study."""
    of_study = np.array([bool(sample.study) for sample in samples], np.bool_)
    logits: Scores = np.zeros(len(outputs))
    for rows, alone in ((~of_study, True), (of_study, False)):
        logits[rows] = decision.reading(alone=alone).logits(outputs[rows])
    return logits


def _pictures(cases: Sequence[Case], labels: Rows) -> Rows:
    """Choose the pictures that stand alone; where these are not of both classes, all that is genuine."""
    genuine = np.array([not case.painted for case in cases])
    alone = genuine & np.array([not case.sample.study for case in cases])
    return alone if len(set(labels[alone].tolist())) > 1 else genuine


def _weigh_whole(judged: Judged, labels: Rows, rows: Rows) -> Reading:
    """Choose how much the whole of a picture counts beside its lesions.

    Of one source of pictures nobody knows what its whole tells of another's: the recipe's weight holds. Of
    several, the weight that ranks best within each, in the mean.
    """
    sources = np.array([case.sample.source for case in judged.cases])
    telling = [
        chosen
        for source in np.unique(sources[rows])
        if len(set(labels[chosen := rows & (sources == source)].tolist())) > 1
    ]
    if judged.outputs.shape[1] == 1 or len(telling) < 2:  # noqa: PLR2004 - several
        return Reading()

    def rank(reading: Reading) -> float:
        return float(np.mean([auc(reading.logits(judged.outputs[part]), labels[part]) for part in telling]))

    return max((Reading(slope=weight, lesions=1 - weight) for weight in WHOLE_WEIGHTS), key=rank)


def _weights(cases: Sequence[Case], labels: Rows, rows: Rows, recipe: Recipe) -> Scores | None:
    if not recipe.data.source_weights:
        return None
    sources = [case.sample.source for case, used in zip(cases, rows, strict=True) if used]
    return balanced_weights(sources, labels[rows], recipe.data.source_weights).astype(np.float64)


def _read_studies(judged: Judged, labels: Rows, decision: Decision, recipe: Recipe) -> Reading | None:
    """Read the slices of scans so that the threshold of pictures is theirs, too.

    A scanner's slice is judged by its lesions more than by the whole: what the whole tells of figures does
    not hold for scans.
    """
    scans = np.array([bool(case.sample.study) or case.sample.healthy_scan for case in judged.cases])
    if judged.outputs.shape[1] == 1 or len(set(labels[scans].tolist())) < 2:  # noqa: PLR2004 - two classes
        return None
    share = recipe.study.whole_share
    mixed = Reading(slope=share, lesions=1 - share)
    found = calibrate(mixed.logits(judged.outputs[scans]), labels[scans])
    shift = float(to_logits(decision.threshold) - to_logits(found.threshold))
    return Reading(
        slope=found.slope * share, lesions=found.slope * (1 - share), intercept=found.intercept + shift
    )
