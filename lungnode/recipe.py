"""The recipe: every number chosen before a training. What the training finds is in the model's manifest.

Worker and trainer read the same recipe: `input` and `study` say how a model is used, the rest how it was
made. Defaults are the paper's. A recipe is a TOML file; the trainer ships its own in `trainer/recipes`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lungnode.errors import UnusableError

RECIPE_FILE: Final = "recipe.json"  # in a model's folder
Backbone = Literal["resnet50", "vgg16", "googlenet"]
Way = Literal["crop", "crop mirrored", "whole", "whole mirrored"]  # to look at a slice


class Part(BaseModel):
    """Values that never change; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnyPart = TypeVar("AnyPart", bound=Part)


class Input(Part):
    """From a slice to the network's input; the one definition that worker and trainer share."""

    size: int = Field(299, ge=32)  # rows and columns, the paper's; a cell of the last stage is 32
    # HU. Slices are kept as 8-bit gray in this window, by worker and trainer alike, so there is only one.
    window_center: float = Field(-600.0, ge=-600.0, le=-600.0)
    window_width: float = Field(1500.0, ge=1500.0, le=1500.0)
    crop: Literal["paper", "lung"] = "paper"  # 50 of 512 rows at each edge, or the lung's bounding box
    # Ways in which a picture that stands alone is looked at; a study's slice is looked at in the first one.
    views: tuple[Way, ...] = Field(("crop",), min_length=1)
    # Every image is encoded again alike in training: the file type must tell nothing. Source: the paper
    # (compressed images are enough); docs/training.md has the price of each quality.
    jpeg_quality: int = Field(75, ge=1, le=100)


class Network(Part):
    """The network and where its first weights come from."""

    backbone: Backbone = "resnet50"
    # Whose published weights fit. A bottleneck strides in its first 1x1 convolution (v1, Keras) or in its 3x3
    # (v1.5, torchvision); every backbone takes its publisher's normalisation.
    topology: Literal["v1", "v1.5"] = "v1"
    init: str = "imagenet"  # or "random", or a file of weights of the same topology
    stages: tuple[int, ...] = (4,)  # of strides 4, 8, 16 and 32: those that the class-map convolution reads
    # The stem and so many stages keep their first weights, and their features are made once; 0: nothing does.
    frozen: int = Field(0, ge=0, le=4)
    dropout: float = Field(0.5, ge=0, lt=1)  # before the class-map convolution
    spread: bool = False  # how much each feature varies over the map counts as well as its mean
    # Two convolutions find lesions in cells of 32 x 32 pixels: the mean of so many of the highest cells is
    # added to the logit. 0: there is no such head.
    lesion_cells: int = Field(0, ge=0)
    lesion_channels: int = Field(64, ge=1)  # between the two

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.stages or [stage for stage in (1, 2, 3, 4) if stage in self.stages] != list(self.stages):
            raise ValueError(f"stages are one or more of 1, 2, 3 and 4, ascending, got {self.stages}")
        return self


class Data(Part):
    """Which slices are trained on, and how much each counts."""

    # Slices drawn from the lung of each study in each epoch: more of negative ones balance the classes.
    positive_slices: int = Field(6, ge=1)  # the paper's
    negative_slices: int = Field(12, ge=1)  # the paper's
    validation_share: float = Field(0.2, gt=0, lt=1)  # of the patients, where no list says
    label_policy: str = "rt-pcr-first"  # how the labels of a study become one; see docs/training.md
    # How much each collection counts; one that is not named counts 1. Empty: each slice counts alike.
    source_weights: Mapping[str, float] = Field(default_factory=dict)
    painted: bool = False  # healthy scans are used again with lesions painted into them


class Training(Part):
    """How the weights are found."""

    seed: int = Field(0, ge=0, lt=2**32)
    # SGD is the paper's. "exact" fits a head on frozen stages to its optimum, with all views at once.
    optimizer: Literal["sgd", "adamw", "exact"] = "sgd"
    learning_rate: float = Field(0.001, gt=0)  # the paper's
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    batch: int = Field(16, ge=1)
    epochs: int = Field(50, ge=1)  # at most; the paper stopped there
    patience: int = Field(8, ge=1)  # epochs without a better validation loss until it stops
    augmentation: bool = False  # the paper needs none
    # Of each slice with augmentation: it as it is, and disturbed ones; an epoch draws one of them. They are
    # made once, as the features of frozen stages are.
    views: int = Field(2, ge=2)
    # Whether the batch normalisation of trained stages measures new statistics. The initial ones are kept by
    # default, for a small batch measures badly; a network that starts from random weights has none to keep.
    new_statistics: bool = False
    average: float = Field(0.0, ge=0, lt=1)  # decay of the moving average of weights; 0: none
    # Of an exact head: how much what the whole map says counts beside the lesions.
    whole_weight: float = Field(1.0, gt=0)


class StudyRule(Part):
    """From the slices of a study to its probability."""

    # The study is judged by the mean of the most suspicious share of the lung's slices.
    suspicious_share: float = Field(0.1, gt=0, le=1)
    # With a lesion head: so much of what the whole map says counts in a slice of a study, beside the lesions.
    whole_share: float = Field(1.0, ge=0, le=1)
    # With a lesion head: standard deviation over which neighbouring slices' maps are averaged, mm; 0: not.
    depth_mm: float = Field(0.0, ge=0)


class Recipe(Part):
    """Everything needed to repeat a training."""

    name: str
    input: Input = Input()
    network: Network = Network()
    data: Data = Data()
    training: Training = Training()
    study: StudyRule = StudyRule()

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        exact = self.training.optimizer == "exact"
        if exact and self.network.frozen < max(self.network.stages):
            raise ValueError("an exact head needs network.frozen to be the last of network.stages")
        if self.network.lesion_cells and not (exact and self.data.painted):
            raise ValueError(
                "network.lesion_cells needs data.painted, which shows lesions, and training.optimizer exact"
            )
        return self


def save_recipe(recipe: Recipe, folder: Path) -> None:
    """Write the recipe into a model's folder."""
    (folder / RECIPE_FILE).write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_recipe(folder: Path) -> Recipe:
    """Read the recipe of a model's folder.

    Raises:
        UnusableError: It is missing, is no JSON object or has other keys than ours.
    """
    return read_part(Recipe, folder / RECIPE_FILE)


def read_part(kind: type[AnyPart], path: Path) -> AnyPart:
    """Read values from a JSON file of a model's folder.

    Raises:
        UnusableError: It is missing, is no JSON object or has other keys than ours.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UnusableError(
            f"The {kind.__name__.lower()} {path} cannot be used: {problem(error)}."
        ) from error


def problem(error: Exception) -> str:
    """Say what is wrong with a file, in one clause."""
    if isinstance(error, ValidationError):
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            return f"there is no key {where}"
        return f"{where or 'the file'}: {first['msg']} (got {first.get('input')!r})"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error).rstrip(".")
