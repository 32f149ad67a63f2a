"""The models that a worker keeps warm; they follow the registry without a restart."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np

from lungnode.errors import UnavailableError
from lungnode.model_folder import ModelInfo, Place, verified
from lungnode.runtime import ClassMaps, Model, Probabilities, Slices
from lungnode.settings import Settings
from worker.hold import Node

_LOG = logging.getLogger(__name__)
_RETRY: Final = timedelta(seconds=60)  # until a model that could not be used is tried again

Loader = Callable[[Path, Settings], Model]  # from a model's folder


@dataclass(frozen=True)
class InTurn:
    """A model that several threads use, one batch at a time."""

    model: Model
    lock: Lock

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        return self.model.info

    @property
    def batch(self) -> int:
        """Slices that go through the network at once."""
        return self.model.batch

    @property
    def runtime(self) -> str:
        """What runs it."""
        return self.model.runtime

    def predict(self, slices: Slices, *, alone: bool = False) -> tuple[Probabilities, ClassMaps]:
        """Predict when it is this thread's turn."""
        with self.lock:
            return self.model.predict(slices, alone=alone)


class WarmModel:
    """One loaded model, exchanged for another one when it is told of another place."""

    def __init__(self, node: Node, load: Loader, role: str) -> None:
        self._node, self._load, self._role = node, load, role
        self._place: Place | None = None
        self._model: Model | None = None
        # What could not be used, and when it is tried again.
        self._failed: tuple[Place, datetime] | None = None

    def at(self, place: Place) -> Model:
        """Return the model of a place, loaded; while that cannot be used, the one before.

        Raises:
            UnavailableError: It cannot be used, and there was none before.
        """
        if place != self._place and not self._failed_lately(place):
            self._exchange(place)
        if self._model is None:
            raise UnavailableError(f"The {self._role} model in {place.folder} cannot be used.")
        return self._model

    def only_at(self, place: Place) -> Model | None:
        """Return the model of a place, loaded; nothing while that cannot be used."""
        if place != self._place:
            self._place = self._model = None
            if not self._failed_lately(place):
                self._exchange(place)
        return self._model

    def drop(self) -> None:
        """Keep no model."""
        self._place = self._model = self._failed = None

    def _failed_lately(self, place: Place) -> bool:
        return self._failed is not None and self._failed[0] == place and self._node.clock() < self._failed[1]

    def _exchange(self, place: Place) -> None:
        try:
            model = self._warm(place)
        except Exception as error:  # noqa: BLE001 - a model that cannot be used must not stop the one that can
            kept = f"; {_named(self._model)} stays in use" if self._model else ""
            if self._failed is None or self._failed[0] != place:  # said once
                _LOG.error("the %s model cannot be used: %s%s", self._role, error, kept)
            self._failed = (place, self._node.clock() + _RETRY)
        else:
            self._place, self._model, self._failed = place, model, None
            _LOG.info("%s model %s runs on %s; ready for analyses", self._role, _named(model), model.runtime)

    def _warm(self, place: Place) -> Model:
        if place.digest:
            verified(place)
        model = self._load(place.folder, self._node.settings)
        size = model.info.size
        model.predict(np.zeros((model.batch, size, size), np.uint8))  # the first call is slow
        return model


def _named(model: Model) -> str:
    return f"{model.info.name} {model.info.version} ({model.info.digest[:12]})"
