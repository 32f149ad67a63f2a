"""What a recipe reaches on samples that its network never saw: over folds of patients, or a source left out.

Each part is a training of its own, from the same first weights and with the same features; early stop,
calibration and threshold come from a share of what it trains on. A part's result is kept in a file, so that
a measurement that was killed goes on behind its last whole part.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from lungnode.durable import replaced
from lungnode.errors import UnusableError
from lungnode.logits import to_logits, to_probabilities
from lungnode.model_folder import Decision
from lungnode.recipe import Recipe
from trainer.bench import make_task
from trainer.decide import decide, read_outputs
from trainer.features import list_cases
from trainer.folds import grouped_folds
from trainer.manifest import digest_samples
from trainer.metrics import Scores
from trainer.samples import Sample, Split
from trainer.splits import check_classes, split_samples
from trainer.workbench import Workbench

NO_FOLD: Final = -1


@dataclass(frozen=True)
class HeldOut:
    """What was said of samples by networks that never saw their patients."""

    samples: tuple[Sample, ...]
    logits: Scores  # calibrated
    folds: tuple[int, ...]  # which part judged the sample
    decisions: tuple[Decision, ...]  # of each part

    @property
    def probabilities(self) -> Scores:
        """The calibrated probability of each sample."""
        return to_probabilities(self.logits)

    @property
    def scores(self) -> Scores:
        """The probability of each sample as it would be if its part's threshold were 0.5.

        Parts have thresholds of their own; in this unit one threshold holds for all.
        """
        thresholds = np.array([self.decisions[fold].threshold for fold in self.folds])
        return to_probabilities(self.logits - to_logits(thresholds))


@dataclass(frozen=True)
class Trial:
    """What measures a recipe."""

    recipe: Recipe
    bench: Workbench
    results: Path | None = None  # folder of finished parts; None: they are not kept


def cross_validate(
    samples: Sequence[Sample], folds: int, seed: int, trial: Trial, *, extra: Sequence[Sample] = ()
) -> HeldOut:
    """Judge each sample by a network that was trained without its fold; a patient is whole in one fold.

    Args:
        samples: To be judged; their splits do not count.
        folds: How many.
        seed: Shuffles the patients.
        trial: What trains.
        extra: Samples that are trained on in each fold and never judged.

    Raises:
        UnusableError: There are fewer patients than folds, a fold's training samples lack a class, or it
            diverged.
        UnavailableError: A file is away, or the disk is full.
    """
    groups = [sample.group for sample in samples]
    if len(set(groups)) < folds:
        raise UnusableError(f"{folds} folds need as many patients, and there are {len(set(groups))}.")
    parts: list[tuple[list[int], Part]] = []
    for training, held_out in grouped_folds(groups, folds, seed):
        part = Part([samples[row] for row in training], [samples[row] for row in held_out], list(extra))
        parts.append((held_out.tolist(), part))
    return _judge(samples, parts, trial)


def leave_out(samples: Sequence[Sample], source: str, trial: Trial) -> HeldOut:
    """Judge the samples of a source by a network that was trained on all the others.

    Raises:
        UnusableError: There is no such source, a class is missing without it, or the training diverged.
        UnavailableError: A file is away, or the disk is full.
    """
    held_out = [sample for sample in samples if sample.source == source]
    if not held_out:
        known = ", ".join(sorted({sample.source for sample in samples}))
        raise UnusableError(f"There is no source {source}; the samples are of {known}.")
    part = Part([sample for sample in samples if sample.source != source], held_out, [])
    return _judge(held_out, [(list(range(len(held_out))), part)], trial)


@dataclass(frozen=True)
class Part:
    """One training of a measurement."""

    training: Sequence[Sample]
    held_out: Sequence[Sample]
    extra: Sequence[Sample]

    def split(self, recipe: Recipe) -> list[Sample]:
        """Return what is trained on, a share of it for validation; what is extra is learnt from alone.

        Raises:
            UnusableError: A class is missing.
        """
        undecided = [replace(sample, split=None) for sample in self.training]
        drawn = split_samples(undecided, recipe.data.validation_share, recipe.training.seed)
        check_classes(drawn, (Split.TRAIN, Split.VALIDATION))
        return [*drawn, *(replace(sample, split=Split.TRAIN) for sample in self.extra)]

    def digest(self, recipe: Recipe) -> str:
        """Name the part by all that its result depends on."""
        lists = [digest_samples(part) for part in (self.training, self.held_out, self.extra)]
        paths = [str(sample.path) for sample in self.held_out]  # the result is in their order
        text = json.dumps([recipe.model_dump(mode="json"), lists, paths])
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def _judge(samples: Sequence[Sample], parts: Sequence[tuple[list[int], Part]], trial: Trial) -> HeldOut:
    logits: Scores = np.full(len(samples), np.nan)
    folds = [NO_FOLD] * len(samples)
    decisions = []
    for number, (rows, part) in enumerate(parts):
        found, decision = _result(part, trial)
        logits[rows] = found
        decisions.append(decision)
        for row in rows:
            folds[row] = number
    return HeldOut(tuple(samples), logits, tuple(folds), tuple(decisions))


def _result(part: Part, trial: Trial) -> tuple[Scores, Decision]:
    """Take a part's result from its file, or train it."""
    path = trial.results / f"{part.digest(trial.recipe)}.json" if trial.results else None
    if path and path.exists():
        kept: dict[str, Any] = json.loads(path.read_bytes())
        return np.array(kept["logits"]), Decision.model_validate(kept["decision"])
    logits, decision = _train(part, trial)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            file.write(json.dumps({"logits": logits.tolist(), "decision": decision.model_dump()}).encode())
    return logits, decision


def _train(part: Part, trial: Trial) -> tuple[Scores, Decision]:
    task = make_task(part.split(trial.recipe), trial.recipe)
    trial.bench.fit(task)
    decision = decide(trial.bench.unseen(task), trial.recipe)
    _, outputs = trial.bench.outputs(list_cases(part.held_out, trial.recipe, learnt=False))
    return read_outputs(outputs, part.held_out, decision), decision


def by_source(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield each source once, in the order of the samples."""
    yield from dict.fromkeys(sample.source for sample in samples)
