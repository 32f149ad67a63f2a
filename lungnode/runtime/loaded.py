"""A loaded model: slices in, probabilities and class maps out, whatever runs the network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lungnode.logits import to_probabilities
from lungnode.model_folder import ModelInfo

Slices = NDArray[np.uint8]  # shape (n, size, size): 8-bit gray, as pixels.model_input makes them
Probabilities = NDArray[np.float32]  # shape (n,)
ClassMaps = NDArray[np.float32]  # shape (n, rows, columns): what each place adds to the calibrated logit
Outputs = NDArray[np.float32]  # shape (n, 1) or (n, 2): the network's logits, before calibration

# From one batch of slices, shape (batch, size, size, 1), to class maps (batch, rows, columns) and outputs.
Run = Callable[[NDArray[np.uint8]], tuple[ClassMaps, Outputs]]


class Model(Protocol):
    """A loaded model."""

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        ...

    @property
    def batch(self) -> int:
        """Slices that go through the network at once."""
        ...

    @property
    def runtime(self) -> str:
        """What runs it, and how precisely: "tensorflow fp32", "openvino int8"."""
        ...

    def predict(self, slices: Slices, *, alone: bool = False) -> tuple[Probabilities, ClassMaps]:
        """Return each slice's probability and class map; slices do not influence each other.

        `alone` says that they are pictures, which no study surrounds: they may be read otherwise.
        """
        ...


@dataclass(frozen=True)
class LoadedModel:
    """A network that runs, and how its outputs are read."""

    info: ModelInfo
    batch: int
    runtime: str
    run: Run

    def predict(self, slices: Slices, *, alone: bool = False) -> tuple[Probabilities, ClassMaps]:
        """Return each slice's probability and class map; see `Model`."""
        if not len(slices):
            return np.zeros(0, np.float32), np.zeros((0, 1, 1), np.float32)
        class_maps, outputs = self.outputs(slices)
        reading = self.info.decision.reading(alone=alone)
        probabilities = to_probabilities(reading.logits(outputs)).astype(np.float32)
        return probabilities, class_maps * np.float32(reading.map_slope)

    def outputs(self, slices: Slices) -> tuple[ClassMaps, Outputs]:
        """Return what the network itself says of at least one slice.

        Raises:
            ValueError: They are no slices of the model's size.
        """
        size = self.info.size
        if slices.shape[1:] != (size, size) or slices.dtype != np.uint8:
            raise ValueError(
                f"The model takes uint8 of (n, {size}, {size}), got {slices.dtype} {slices.shape}."
            )
        maps, outputs = [], []
        for start in range(0, len(slices), self.batch):
            part = slices[start : start + self.batch]
            # Two shapes only, a full batch and a single slice: kernels are made once for each shape.
            filled = np.zeros((self.batch if len(part) > 1 else 1, size, size, 1), np.uint8)
            filled[: len(part), ..., 0] = part
            class_maps, logits = self.run(filled)
            maps.append(class_maps[: len(part)])
            outputs.append(logits[: len(part)])
        return np.concatenate(maps), np.concatenate(outputs)
