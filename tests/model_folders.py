"""Models that differ from the shipped one in what they call positive: quick to make, each with its digest."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from db.models import RegisteredModel
from db.registry import Promotion, promote, register, start_shadow
from db.session import transaction
from lungnode.model_folder import (
    SHIPPED_MODEL,
    Manifest,
    ModelInfo,
    describe_model,
    read_manifest,
    save_manifest,
)
from lungnode.recipe import Input, read_recipe, save_recipe
from lungnode.runtime import ClassMaps, Model, Probabilities, Slices
from lungnode.settings import Settings
from tests.bench import NOON, Bench
from tests.training_data import small_recipe
from trainer.registry import keep_model
from worker.hold import Node
from worker.run import Analyst


def variant(
    folder: Path, threshold: float, version: str = "2", name: str = "candidate", size: int | None = None
) -> ModelInfo:
    """Make a model folder with the shipped weights and another threshold, maybe another input."""
    shutil.copytree(SHIPPED_MODEL, folder)
    manifest = read_manifest(folder)
    decision = manifest.decision.model_copy(update={"threshold": threshold, "study_offset": 0.0})
    save_manifest(
        manifest.model_copy(update={"name": name, "version": version, "decision": decision}), folder
    )
    if size:
        recipe = read_recipe(folder)
        save_recipe(recipe.model_copy(update={"input": Input(size=size, crop=recipe.input.crop)}), folder)
    return describe_model(folder)


@dataclass
class ToyModel:
    """Finds the same everywhere and is called what its folder says; it remembers what it saw."""

    info: ModelInfo
    batch: int
    runtime: str = "toy"
    probability: float = 0.75
    error: Exception | None = None
    before_predict: Callable[[], object] = lambda: None
    seen: list[Slices] = field(default_factory=list)

    def predict(
        self,
        slices: Slices,
        *,
        alone: bool = False,  # noqa: ARG002 - it reads all alike
    ) -> tuple[Probabilities, ClassMaps]:
        """Answer, or raise."""
        if np.any(slices):  # not the warm-up
            self.before_predict()
            if self.error is not None:
                raise self.error
            self.seen.append(slices)
        count = len(slices)
        return np.full(count, self.probability, np.float32), np.ones((count, 2, 2), np.float32)


@dataclass
class Registry:
    """A node with a registry, and one worker that stays: its models are toys, one a folder."""

    bench: Bench
    loaded: dict[str, ToyModel] = field(default_factory=dict)  # by digest
    errors: dict[str, Exception] = field(default_factory=dict)  # what a model raises, by its digest
    analyst: Analyst = field(init=False)

    def __post_init__(self) -> None:
        bench = self.bench
        node = Node(bench.engine, self.settings, lambda: bench.stopping, lambda: bench.now)
        self.analyst = Analyst(node, self.load)

    @property
    def settings(self) -> Settings:
        """What the node is set to."""
        return self.bench.settings

    @property
    def engine(self) -> Engine:
        """The node's database."""
        return self.bench.engine

    def load(self, folder: Path, settings: Settings) -> Model:
        """Load the toy of a folder."""
        info = describe_model(folder)
        self.loaded[info.digest] = ToyModel(info, settings.analysis.batch, error=self.errors.get(info.digest))
        return self.loaded[info.digest]

    def add(self, threshold: float, now: datetime = NOON, **values: object) -> RegisteredModel:
        """Register a candidate."""
        folder = self.bench.folder / f"made-{threshold}"
        variant(folder, threshold, version=str(threshold), **values)  # type: ignore[arg-type]
        return self.keep(folder, now)

    def keep(self, folder: Path, now: datetime = NOON) -> RegisteredModel:
        """Register the model of a folder."""
        info, path = keep_model(folder, self.settings.models)
        with transaction(self.engine) as session:
            return register(session, info, path, now)

    def promote(self, model: RegisteredModel, over: RegisteredModel | None = None) -> None:
        """Make a model the active one, over another one or the shipped one."""
        before = over or self.keep(SHIPPED_MODEL)
        with transaction(self.engine) as session:
            promote(session, model, before, Promotion(), NOON)

    def shadow(self, model: RegisteredModel) -> None:
        """Put a model into the shadow."""
        with transaction(self.engine) as session:
            start_shadow(session, model, NOON)


def small_model(folder: Path, version: str, *, opposite: bool = False) -> ModelInfo:
    """Make a small network of random weights that sees the bright patches of `draw_slices`, or the opposite.

    The weights of the class map are made small: random ones leave no probability between 0 and 1.
    """
    from lungnode.network import get_weights  # noqa: PLC0415 - it imports TensorFlow
    from trainer.bench import first_network  # noqa: PLC0415 - the same
    from trainer.candidate import write_candidate  # noqa: PLC0415 - the same

    recipe = small_recipe(seed=1)
    weights = get_weights(first_network(recipe))
    weights["class_map.weight"] = weights["class_map.weight"] * np.float32(-0.01 if opposite else 0.01)
    write_candidate(folder, Manifest(name="small", version=version), recipe, weights, [])
    return describe_model(folder)
