"""Prediction beside decoding: slices go through the model while others of their series are still decoded.

Which slices show lung is known when all are decoded. A few of them, spread over the series, are decoded
first: what lies between those that show lung is predicted at once. The coverage of the whole series decides
in the end: what it adds is predicted then, what it leaves out is forgotten. So the result is the same.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np

from lungnode.heatmap import ClassMap
from lungnode.pixels import Box, Gray
from lungnode.recipe import Input
from lungnode.runtime import Model, Slices
from lungnode.series import Candidate
from lungnode.stack import Decoding, Proceed, Reader, cover_stack
from lungnode.views import find_place, ways_of

FIRST_LOOK: Final = 32  # slices; of a chest of 300 mm one each centimetre


@dataclass(frozen=True)
class Sight:
    """A slice as the model saw it, and what it says of it."""

    box: Box
    image: Gray  # the model's input
    probability: np.float32
    class_map: ClassMap  # as predicted: what each place adds to the logit


class Predictor:
    """Predicts slices in the model's batches, in the order in which they are given.

    One thread makes the model's input, another one predicts. After a failure no batch follows.
    """

    def __init__(self, model: Model, proceed: Proceed) -> None:
        """Use this model; `proceed` is called by another thread."""
        self._model, self._proceed = model, proceed
        self._maker, self._predictor = ThreadPoolExecutor(1, "prepare"), ThreadPoolExecutor(1, "predict")
        self._given: list[int] = []
        self._waiting: list[Gray] = []  # the last ones that were given
        self._batches: list[Future[list[Sight]]] = []

    def __enter__(self) -> Self:
        """Be ready."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave off what has not begun."""
        for pool in (self._maker, self._predictor):
            pool.shutdown(cancel_futures=True)

    def add(self, number: int, gray: Gray) -> None:
        """Predict a slice as soon as a batch is full."""
        self._given.append(number)
        self._waiting.append(gray)
        if len(self._waiting) == self._model.batch:
            self._begin()

    def finish(self, slices: Mapping[int, Gray]) -> list[Sight]:
        """Return what the model says of these slices; those that were not given before are predicted now."""
        given = set(self._given)
        for number, gray in slices.items():
            if number not in given:
                self.add(number, gray)
        if self._waiting:
            self._begin()
        sights = [sight for batch in self._batches for sight in batch.result()]
        found = dict(zip(self._given, sights, strict=True))
        return [found[number] for number in slices]

    def _begin(self) -> None:
        made = self._maker.submit(preprocess, self._waiting, self._model.info.recipe.input)
        before, done = self._batches[-1:], len(self._given)
        self._batches.append(self._predictor.submit(self._predict, made, before, done))
        self._waiting = []

    def _predict(
        self, made: Future[tuple[list[Box], Slices]], before: list[Future[list[Sight]]], done: int
    ) -> list[Sight]:
        for batch in before:
            batch.result()  # raises what that one did
        boxes, slices = made.result()
        probabilities, class_maps = self._model.predict(slices)
        self._proceed(done, len(self._given))
        return [Sight(*each) for each in zip(boxes, slices, probabilities, class_maps, strict=True)]


def preprocess(grays: Sequence[Gray], recipe: Input) -> tuple[list[Box], Slices]:
    """Crop and resize slices to the network's input; also return what of each matrix it shows."""
    (way,) = ways_of(recipe, alone=False)
    places = [find_place(gray, way, recipe) for gray in grays]
    slices = np.stack([place.take(gray) for gray, place in zip(grays, places, strict=True)])
    return [place.box for place in places], slices


def decode_ahead(
    candidate: Candidate, read: Reader, proceed: Proceed, predict: Callable[[int, Gray], None]
) -> Decoding:
    """Decode all slices of a candidate; those that surely show lung are given to `predict` on the way."""
    total = len(candidate.slices)
    step = max(1, total // FIRST_LOOK)
    first = range(0, total, step)
    order = [*first, *(number for number in range(total) if number % step)]
    decoding, wanted = Decoding(candidate), range(0)
    for done, number in enumerate(decoding.decode(order, read, proceed), start=1):
        known = [number]
        if done == len(first) and done < total:
            wanted, known = _between(decoding), [*first]
        for each in known:
            if each in wanted and each in decoding.grays:
                predict(each, decoding.grays[each])
    return decoding


def _between(decoding: Decoding) -> range:
    """Return the numbers from the first to the last decoded slice that shows lung; none if it is no chest."""
    stack = decoding.stack()
    if not stack.numbers:
        return range(0)
    cover = cover_stack(stack)
    if not cover.is_chest or cover.first is None or cover.last is None:
        return range(0)
    return range(stack.numbers[cover.first], stack.numbers[cover.last] + 1)
