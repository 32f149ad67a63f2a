"""A model is a folder: weights, recipe, manifest, figures, card and the licences of what it was made from."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lungnode.digest import file_digest
from lungnode.errors import UnusableError
from lungnode.recipe import RECIPE_FILE, Part, Recipe, read_part, read_recipe

WEIGHTS_FILE: Final = "weights.safetensors"
MANIFEST_FILE: Final = "model.json"
METRICS_FILE: Final = "metrics.json"
CARD_FILE: Final = "README.md"
IDENTITY: Final = (
    WEIGHTS_FILE,
    RECIPE_FILE,
    MANIFEST_FILE,
)  # what decides a result: its digest is the model's
SHIPPED_MODEL: Final = Path(__file__).parent / "model"


Outputs = NDArray[np.floating[Any]]  # shape (n, 1): logits; or (n, 2), the lesion head's part behind them


class Reading(Part):
    """How the network's outputs become a calibrated logit."""

    slope: float = Field(1.0, ge=0)  # of the network's logit
    intercept: float = 0.0
    lesions: float = 0.0  # added for what the lesion head says

    def logits(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the calibrated logit of each slice."""
        logits: NDArray[np.float64] = self.slope * outputs[:, 0].astype(np.float64) + self.intercept
        return logits + self.lesions * outputs[:, 1] if self.lesions else logits

    @property
    def map_slope(self) -> float:
        """How much a place of the class map counts."""
        return self.slope + self.lesions


class Decision(Reading):
    """From the network's outputs to a verdict; measured on validation data, never on test data."""

    study: Reading | None = None  # of a study's slices; None: they are read as pictures that stand alone
    threshold: float = Field(0.5, ge=0, le=1)  # a probability from here on is positive
    study_offset: float = (
        0.0  # calibrated logit taken off a study's: healthy lungs have suspicious slices, too
    )
    map_scale: float = Field(1.0, gt=0)  # calibrated class-map activation that is shown at full strength

    def reading(self, *, alone: bool) -> Reading:
        """Return how a slice is read; `alone` says that no study surrounds it."""
        return self if alone or self.study is None else self.study


class Manifest(Part):
    """What a training found, and what of."""

    name: str
    version: str
    findings: tuple[str, ...] = ("covid-19",)  # of the class maps, in their order; names of lungnode.codes
    decision: Decision = Decision()
    data: dict[str, str] = Field(default_factory=dict)  # SHA-256 of the list of samples, by split


@dataclass(frozen=True)
class ModelInfo:
    """What a report says of the model."""

    name: str
    version: str
    digest: str  # SHA-256, hexadecimal, of everything that decides a result
    recipe: Recipe
    decision: Decision

    @property
    def threshold(self) -> float:
        """Probability from which a slice or a study is positive."""
        return self.decision.threshold

    @property
    def size(self) -> int:
        """Rows and columns of the input."""
        return self.recipe.input.size


@dataclass(frozen=True)
class Place:
    """Where a model lies, and which one it has to be."""

    folder: Path
    digest: str = ""  # of a registered model; empty: whatever lies there


def verified(place: Place) -> ModelInfo:
    """Describe the model of a place, after a look at whether it is the one that has to be there.

    Raises:
        UnusableError: It is another one, or a file of it is missing or cannot be read.
    """
    info = describe_model(place.folder)
    if place.digest and info.digest != place.digest:
        raise UnusableError(
            f"The model in {place.folder} is not the registered one: "
            f"its SHA-256 is {info.digest[:12]}, not {place.digest[:12]}."
        )
    return info


def describe_model(folder: Path) -> ModelInfo:
    """Read what a model's folder says of itself, without loading the network.

    Raises:
        UnusableError: A file of the model is missing or cannot be read.
    """
    recipe, manifest = read_recipe(folder), read_manifest(folder)
    return ModelInfo(manifest.name, manifest.version, _digest(folder), recipe, manifest.decision)


def _digest(folder: Path) -> str:
    lines = []
    for name in IDENTITY:
        try:
            lines.append(f"{file_digest(folder / name)}  {name}\n")
        except OSError as error:
            raise UnusableError(f"The file {folder / name} cannot be read: {error.strerror}.") from error
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the manifest into the model's folder."""
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest.

    Raises:
        UnusableError: It is missing, is no JSON object or has other keys than ours.
    """
    return read_part(Manifest, folder / MANIFEST_FILE)


def read_card(folder: Path) -> str:
    """Read the model card.

    Raises:
        UnusableError: It is missing.
    """
    return _read_text(folder / CARD_FILE)


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read the figures measured at the end of the training.

    Raises:
        UnusableError: They are missing or no JSON object.
    """
    try:
        metrics: dict[str, Any] = json.loads(_read_text(folder / METRICS_FILE))
    except ValueError as error:
        raise UnusableError(f"The figures {folder / METRICS_FILE} cannot be read: {error}.") from error
    return metrics


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnusableError(f"The file {path} of the model cannot be read: {error.strerror}.") from error
