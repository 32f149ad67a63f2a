"""One analysis, composed of pure phases: choose, decode, coverage, predict, judge.

Nothing is read or written here: pixels come from a reader, time from a clock, and whoever runs the analysis
is asked between steps whether it goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from lungnode.activation import show_maps
from lungnode.depth import read_in_depth
from lungnode.lungs import Coverage
from lungnode.model_folder import ModelInfo
from lungnode.pixels import Box, Gray
from lungnode.recipe import Input
from lungnode.runtime import ClassMaps, Model, Probabilities, Slices
from lungnode.series import MIN_SLICES, Candidate, SliceHeader, choose
from lungnode.stack import Reader, Stack, cover_stack, thinned
from lungnode.study_rule import study_probability
from lungnode.views import find_place, join_views, ways_of
from worker.ahead import Predictor, decode_ahead
from worker.conduct import Conduct, Stopwatch
from worker.result import SliceFinding, StudyFinding, Verdict
from worker.verdict import WHOLE, Unseen, judge, unseen


@dataclass(frozen=True)
class Seen:
    """What a model with this input sees of a study."""

    input: Input
    headers: tuple[SliceHeader, ...]  # of the slices, from top to bottom
    positions_mm: tuple[float, ...]
    boxes: tuple[Box, ...]
    slices: Slices
    series_instance_uid: str
    lacking: Unseen  # of the lung
    picked: bool
    notes: tuple[str, ...]
    is_placed: bool = False  # the headers say where the slices lie
    grays: tuple[Gray, ...] = ()  # the slices as they were decoded, to draw on


def _forget(_seen: Seen) -> None:
    pass


@dataclass
class _Run:
    """One analysis under way."""

    read: Reader
    model: Model
    conduct: Conduct
    watch: Stopwatch
    picked: bool
    keep: Callable[[Seen], object]
    notes: list[str] = field(default_factory=list)


def analyse(
    headers: Sequence[SliceHeader],
    read: Reader,
    model: Model,
    conduct: Conduct,
    *,
    picked: bool = False,
    keep: Callable[[Seen], object] = _forget,
) -> tuple[StudyFinding, dict[str, float]]:
    """Analyse the slices of one study.

    Args:
        headers: All slices of the study.
        read: Gives their pixels.
        model: What predicts.
        conduct: The clock, and leave to go on.
        picked: A person picked these slices: they need not show a whole chest, and have a probability even
            where the verdict is that they show none.
        keep: Given what the model saw, for `judge_seen` with another one.

    Returns:
        The finding, and the seconds of each phase.
    """
    run = _Run(read, model, conduct, Stopwatch(conduct.clock), picked, keep)
    finding = _first_chest(run, headers)
    return finding, run.watch.seconds


def _first_chest(run: _Run, headers: Sequence[SliceHeader]) -> StudyFinding:
    """Analyse the best series whose pixels show a chest; without any, say what stood in the way."""
    with run.watch.phase("choose"):
        choice = choose(headers, 1 if run.picked else MIN_SLICES)
    run.notes += choice.reasons
    verdict, reason = Verdict.NOT_APPLICABLE, choice.reasons[-1]
    for candidate in choice.ranked:
        found = _look(run, candidate)
        if isinstance(found, StudyFinding):
            return found
        # A chest may be among what could not be decoded: that outranks "no chest here".
        if verdict is not Verdict.ERROR or found[0] is Verdict.ERROR:
            verdict, reason = found
    series = choice.series_instance_uid or ""
    return StudyFinding(verdict, None, run.model.info.threshold, reason, series, tuple(run.notes))


def _look(run: _Run, candidate: Candidate) -> StudyFinding | tuple[Verdict, str]:
    """Return the finding of a series; where its pixels show no chest, what stands in the way."""
    with Predictor(run.model, partial(run.conduct.proceed, "predict")) as predictor:
        stack = _decode(run, candidate, predictor)
        if not stack.numbers:
            return Verdict.ERROR, _undecodable(stack)
        with run.watch.phase("coverage"):
            cover = cover_stack(stack)
        run.notes.append(cover.reason)
        if cover.is_chest:
            return _find(run, stack, cover, predictor)
        if run.picked:
            finding = _find(run, stack, cover, predictor)
            return replace(finding, verdict=Verdict.NOT_APPLICABLE, reason=cover.reason)
        return Verdict.NOT_APPLICABLE, cover.reason


def _decode(run: _Run, candidate: Candidate, predictor: Predictor) -> Stack:
    few = thinned(candidate, run.conduct.at_most or len(candidate.slices))
    total = len(few.slices)
    if total < len(candidate.slices):
        run.notes.append(f"{total} of {len(candidate.slices)} slices, evenly spread, were looked at.")
    with run.watch.phase("decode"):
        stack = decode_ahead(few, run.read, partial(run.conduct.proceed, "decode"), predictor.add).stack()
    if stack.failures:
        failed = len(stack.failures)
        run.notes.append(f"{failed} of {total} slices could not be decoded; the first: {stack.failures[0]}")
    return stack


def _undecodable(stack: Stack) -> str:
    if len(stack.failures) == 1:
        return f"The only slice could not be decoded: {stack.failures[0]}"
    return f"None of {len(stack.failures)} slices could be decoded; the first: {stack.failures[0]}"


def _find(run: _Run, stack: Stack, cover: Coverage, predictor: Predictor) -> StudyFinding:
    """Predict every slice that covers the lung, and judge the study by them."""
    lung = stack.of_lung(cover)
    with run.watch.phase("predict"):
        sights = predictor.finish(dict(zip(lung.numbers, lung.grays, strict=True)))
    spacing_mm = stack.candidate.geometry.spacing_mm
    seen = Seen(
        input=run.model.info.recipe.input,
        headers=lung.slices,
        positions_mm=lung.positions_mm,
        boxes=tuple(sight.box for sight in sights),
        slices=np.stack([sight.image for sight in sights]),
        series_instance_uid=stack.candidate.series_instance_uid,
        lacking=WHOLE if run.picked else unseen(lung.positions_mm, spacing_mm, cover),
        picked=run.picked,
        notes=tuple(run.notes),
        is_placed=lung.is_placed,
        grays=lung.grays,
    )
    run.keep(seen)
    class_maps = np.stack([sight.class_map for sight in sights])
    said = Predicted(np.array([sight.probability for sight in sights], np.float32), class_maps)
    return _judged(seen, said, run.model.info)


@dataclass(frozen=True)
class Predicted:
    """What the model says of a row of slices."""

    probabilities: Probabilities
    class_maps: ClassMaps  # what each place adds to the logit


def judge_seen(seen: Seen, model: Model, conduct: Conduct) -> StudyFinding:
    """Predict the slices of a study, which are the model's input, and judge the study by them."""
    return _judged(seen, predict(model, seen.slices, conduct), model.info)


def _judged(seen: Seen, said: Predicted, info: ModelInfo) -> StudyFinding:
    share, offset = info.recipe.study.suspicious_share, info.decision.study_offset
    depths = seen.positions_mm if seen.is_placed else None
    probabilities, class_maps = read_in_depth(said.probabilities, said.class_maps, depths, info.recipe)
    probability = study_probability(probabilities, share, 0.0 if seen.picked else offset)
    verdict, reason = judge(probability, info.threshold, seen.lacking)
    shown = show_maps(class_maps, info.decision.map_scale)
    findings = tuple(
        SliceFinding(
            header.sop_class_uid, header.sop_instance_uid, header.frame, position, float(p), class_map, box
        )
        for header, position, p, class_map, box in zip(
            seen.headers, seen.positions_mm, probabilities, shown, seen.boxes, strict=True
        )
    )
    series = seen.series_instance_uid
    return StudyFinding(verdict, probability, info.threshold, reason, series, seen.notes, findings)


def picture_findings(grays: Sequence[Gray], model: Model, conduct: Conduct) -> list[StudyFinding]:
    """Classify pictures of single slices, a finding each."""
    if not grays:
        return []
    recipe = model.info.recipe.input
    ways = ways_of(recipe, alone=True)
    places = [[find_place(gray, way, recipe) for way in ways] for gray in grays]
    slices = np.stack([at.take(gray) for gray, each in zip(grays, places, strict=True) for at in each])
    seen = predict(model, slices, conduct, alone=True)
    probabilities = join_views(seen.probabilities.reshape(-1, len(ways)))
    # Of the first way, which the heatmap shows.
    class_maps = show_maps(seen.class_maps[:: len(ways)], model.info.decision.map_scale)
    boxes = [each[0].box for each in places]
    findings = []
    for probability, class_map, box in zip(probabilities, class_maps, boxes, strict=True):
        verdict, reason = judge(float(probability), model.info.threshold, WHOLE)
        shown = SliceFinding("", "", None, 0.0, float(probability), class_map, box)
        threshold = model.info.threshold
        findings.append(StudyFinding(verdict, float(probability), threshold, reason, slices=(shown,)))
    return findings


def predict(model: Model, slices: Slices, conduct: Conduct, *, alone: bool = False) -> Predicted:
    """Predict in batches, so that the run can be stopped between two."""
    parts = []
    for start in range(0, len(slices), model.batch):
        parts.append(model.predict(slices[start : start + model.batch], alone=alone))
        conduct.proceed("predict", min(start + model.batch, len(slices)), len(slices))
    probabilities, class_maps = zip(*parts, strict=True)
    return Predicted(np.concatenate(probabilities), np.concatenate(class_maps))
