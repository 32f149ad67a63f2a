"""The recipe: every number needed to repeat a training and to use the model it produced."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from lungnode.errors import UnusableError

RECIPE_FILE: Final = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """Saved as JSON beside the weights it produced.

    `study_offset`, `threshold` and `map_scale` are results of the training; all else is chosen before it.
    """

    name: str
    version: str
    size: int = 299  # rows and columns of the network's input; the paper's
    window_center: float = -600.0  # HU
    window_width: float = 1500.0  # HU
    crop: Literal["lung", "paper"] = "lung"  # the lung's bounding box, or the paper's fixed one
    stages: tuple[int, ...] = (2, 3)  # residual stages, 1 to 4, that the class-map convolution reads
    seed: int = 0
    jpeg_quality: int = 75  # every image is re-encoded alike: the file type must tell nothing
    weight_decay: float = 0.01  # half of it times the squared weights is added to the mean loss
    folds: int = 5  # of the cross-validation
    # How much each collection counts in training; within one, sick and healthy slices count alike.
    # Scans of healthy lungs count as sick, too, with lesions painted into them.
    source_weights: dict[str, float] = field(
        default_factory=lambda: {
            "covid-ct": 1.0,
            "sars-cov-2-ct": 1.0,
            "luna16": 3.0,
            "covid-ct-md": 0.5,  # two patients
        }
    )
    suspicious_share: float = 0.1  # of the lung's slices: the study is judged by the mean of these
    study_offset: float = 0.0  # logit taken off that mean: the suspicious share of healthy slices has it too
    threshold: float = 0.5  # a probability from here on is positive
    map_scale: float = 1.0  # class-map activation that is shown at full strength


def save_recipe(recipe: Recipe, folder: Path) -> None:
    """Write the recipe into the model's folder."""
    text = json.dumps(asdict(recipe), indent=2) + "\n"
    (folder / RECIPE_FILE).write_text(text, encoding="utf-8")


def read_recipe(folder: Path) -> Recipe:
    """Read the recipe of a model's folder.

    Raises:
        UnusableError: It is missing, is no JSON object or has other fields than ours.
    """
    path = folder / RECIPE_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Recipe(**{**fields, "stages": tuple(fields["stages"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UnusableError(f"The recipe {path} cannot be used: {error}.") from error
