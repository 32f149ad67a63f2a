"""Models that differ from the shipped one in what they call positive: quick to make, each with its digest."""

import shutil
from collections.abc import Callable
from pathlib import Path

from lungnode.model_folder import SHIPPED_MODEL, ModelInfo, describe_model, read_manifest, save_manifest
from lungnode.runtime import Model
from tests.bench import OneProbability


def variant(folder: Path, threshold: float, version: str = "2", name: str = "candidate") -> ModelInfo:
    """Make a model folder with the shipped weights and another threshold."""
    shutil.copytree(SHIPPED_MODEL, folder)
    manifest = read_manifest(folder)
    decision = manifest.decision.model_copy(update={"threshold": threshold})
    save_manifest(
        manifest.model_copy(update={"name": name, "version": version, "decision": decision}), folder
    )
    return describe_model(folder)


def toy_loader(loaded: list[str]) -> Callable[[Path, int], Model]:
    """Load a model that finds the same everywhere and is called what its folder says; note each digest."""

    def load(folder: Path, batch: int) -> Model:
        info = describe_model(folder)
        loaded.append(info.digest)
        return OneProbability(info=info, batch=batch)

    return load
