"""Figures of a recipe on samples that its networks never saw, as Markdown: `python -m trainer.experiment`.

    python -m trainer.development ../shared/data development.csv
    python -m trainer.experiment development.csv --recipe best --init ../shared/data/weights/...npz

Cross-validation over patients within a source, and each source left out of the training. What is measured
is kept in a folder: a run that was killed goes on behind its last whole part, and a repeat only prints.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

import numpy as np

from lungnode.recipe import Recipe
from lungnode.study_rule import study_probability
from trainer.bench import with_init
from trainer.candidate import add_figures
from trainer.card import figures_table
from trainer.cross_validation import HeldOut, Trial, by_source, cross_validate, leave_out
from trainer.dataset import Draw, collect
from trainer.document import figures
from trainer.evaluate import Scored
from trainer.manifest import read_manifest
from trainer.metrics import Scores, auc
from trainer.progress import LoggedProgress, Progress
from trainer.recipes import load_recipe
from trainer.samples import Collection, Sample
from trainer.workbench import open_bench

HALF: Final = 0.5  # the threshold of HeldOut.scores
_LOG = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(asctime)s %(message)s")
    wanted = _parse(arguments)
    recipe = load_recipe(wanted.recipe, wanted.set or ())
    samples = read_samples(wanted.manifest, recipe)
    trial = make_trial(recipe, wanted.init, wanted.work, LoggedProgress())
    measured = list(measure(samples, trial, wanted))
    evaluations = {title: held_out_figures(held_out) for title, held_out in measured}
    sys.stdout.write(figures_table(evaluations) + "\n")
    for title, held_out in measured:
        for study, found in judge_studies(held_out, recipe).items():
            ranked = "" if found.auc is None else f", AUC of its slices {found.auc:.3f}"
            sys.stdout.write(
                f"\nstudy {study}, {title}: {found.probability:.3f}, threshold {found.threshold:.3f}{ranked}"
            )
    sys.stdout.write("\n")
    if wanted.card:
        add_figures(wanted.card, evaluations, (wanted.note,) if wanted.note else ())
    return 0


def read_samples(manifest: Path, recipe: Recipe) -> tuple[Sample, ...]:
    """Read a list of samples, each of which can be decoded.

    Raises:
        UnusableError: The list or an image cannot be used.
        UnavailableError: A file is away.
    """
    draw = Draw(recipe.data.validation_share, recipe.training.seed)
    return collect([Collection(tuple(read_manifest(manifest)))], draw, needed=()).samples


def make_trial(recipe: Recipe, init: Path | None, work: Path, progress: Progress) -> Trial:
    """Prepare a measurement in a folder of work, which keeps features and results.

    Raises:
        UnusableError: The first weights cannot be used.
        UnavailableError: The folder cannot be used.
    """
    recipe = with_init(recipe, init) if init else recipe
    return Trial(recipe, open_bench(recipe, work / "features", progress), work / "results")


def measure(
    samples: Sequence[Sample], trial: Trial, wanted: argparse.Namespace
) -> Iterator[tuple[str, HeldOut]]:
    """Yield each measurement with its title."""
    for seed in range(wanted.seeds):
        for source in wanted.within or ():
            judged = [sample for sample in samples if sample.source == source]
            others = [sample for sample in samples if sample.source != source] if wanted.with_others else []
            title = f"{source}, {wanted.folds} folds, seed {seed}"
            _LOG.info("%s", title)
            yield title, cross_validate(judged, wanted.folds, seed, trial, extra=others)
    for source in wanted.left_out or (by_source(samples) if wanted.leave_out else ()):
        _LOG.info("%s left out", source)
        yield f"{source}, left out", leave_out(samples, source, trial)


def held_out_figures(held_out: HeldOut) -> dict[str, Any]:
    """Return the six metrics with their intervals: verdicts by each part's own threshold.

    Ranks, and what is said of the calibration, are of the probabilities: parts of the same quality may have
    thresholds far apart.
    """
    verdicts = figures(_scored(held_out, held_out.scores), HALF)
    ranks = figures(_scored(held_out, held_out.probabilities), HALF)
    bounds = verdicts["confidence_intervals"] | {"auc": ranks["confidence_intervals"]["auc"]}
    told = {name: ranks[name] for name in ("auc", "ece", "brier")}
    return verdicts | told | {"confidence_intervals": bounds}


def _scored(held_out: HeldOut, scores: Scores) -> Scored:
    samples = held_out.samples
    return Scored(
        names=tuple(str(sample.path) for sample in samples),
        groups=tuple(sample.group for sample in samples),
        labels=np.array([sample.positive for sample in samples]),
        scores=scores,
        first=np.arange(len(samples)),
    )


@dataclass(frozen=True)
class JudgedStudy:
    """What was said of a study by networks that never saw it."""

    probability: float
    threshold: float
    auc: float | None  # of its slices; None where they have one label


def judge_studies(held_out: HeldOut, recipe: Recipe) -> dict[str, JudgedStudy]:
    """Judge each study from its slices, by the study rule."""
    rows: dict[str, list[int]] = {}
    for row, sample in enumerate(held_out.samples):
        if sample.study:
            rows.setdefault(sample.study, []).append(row)
    found = {}
    for study, members in rows.items():
        decision = held_out.decisions[held_out.folds[members[0]]]
        probabilities = held_out.probabilities[members].astype(np.float32)
        probability = study_probability(probabilities, recipe.study.suspicious_share, decision.study_offset)
        labels = np.array([held_out.samples[row].positive for row in members])
        ranked = auc(held_out.logits[members], labels) if len(set(labels.tolist())) > 1 else None
        found[study] = JudgedStudy(probability, decision.threshold, ranked)
    return found


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.experiment")
    add = parser.add_argument
    add("manifest", type=Path, help="list of samples, see trainer.development")
    add("--recipe", default="paper", help="name or file")
    add("--set", action="append", metavar="KEY=VALUE", help="change one value of the recipe")
    add("--init", type=Path, help="first weights, instead of the recipe's")
    add("--within", action="append", metavar="SOURCE", help="cross-validate within it")
    add("--with-others", action="store_true", help="train on the other sources, too")
    add("--folds", type=int, default=5)
    add("--seeds", type=int, default=1, help="so many shuffles of the patients")
    add("--leave-out", action="store_true", help="leave each source out")
    add("--left-out", action="append", metavar="SOURCE", help="leave this source out")
    add("--card", type=Path, metavar="MODEL", help="model's folder whose card shall have the figures, too")
    add("--note", help="a sentence for that card")
    add("--work", type=Path, default=Path(gettempdir()) / "lungnode-experiment", help="features and results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
