"""A model whose answer can be computed by hand: no TensorFlow, no training."""

from dataclasses import dataclass, field

import numpy as np

from lungnode.model_folder import Decision, ModelInfo
from lungnode.recipe import Input, Recipe
from lungnode.runtime import ClassMaps, Probabilities, Slices


@dataclass
class MeanGray:
    """Says the mean gray of a slice, divided by 255; remembers the size of each batch."""

    recipe: Recipe = field(default_factory=lambda: Recipe(name="toy", input=Input(size=32, crop="lung")))
    decision: Decision = field(default_factory=Decision)
    batch: int = 4
    runtime: str = "toy"
    batches: list[int] = field(default_factory=list)

    @property
    def info(self) -> ModelInfo:
        """What it claims to be."""
        return ModelInfo("mean gray", "1", "cd" * 32, self.recipe, self.decision)

    def predict(
        self,
        slices: Slices,
        *,
        alone: bool = False,  # noqa: ARG002 - it reads all alike
    ) -> tuple[Probabilities, ClassMaps]:
        """Answer."""
        self.batches.append(len(slices))
        probabilities = (slices.mean(axis=(1, 2)) / 255).astype(np.float32)
        return probabilities, np.broadcast_to(probabilities[:, None, None], (len(slices), 2, 2))
