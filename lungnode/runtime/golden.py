"""Proof that a runtime computes what it computed before: slices of a phantom, and the logits they had.

A processor without the instructions, a broken library or a damaged file would not say so by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lungnode.errors import UnusableError
from lungnode.phantom.volume import draw
from lungnode.pixels import lung_window
from lungnode.recipe import Input
from lungnode.runtime.loaded import LoadedModel, Outputs, Slices
from lungnode.runtime.record import Precision
from lungnode.runtime.reference import REFERENCE
from lungnode.views import find_place, ways_of

SLICES: Final = 4
_MATRIX: Final = 256  # rows and columns of the phantom
_SEED: Final = 20
_SLICES: Final = "slices"  # in the file; all else is outputs, by runtime
# Of a calibrated logit. What another order of sums changes is a thousandth of it; what breaks, all of it.
_TOLERANCE: Final[Mapping[Precision, float]] = {"fp32": 0.02, "bf16": 0.5, "int8": 0.5}


@dataclass(frozen=True)
class Golden:
    """What was said of slices when a model was made for a runtime."""

    slices: Slices
    outputs: Mapping[str, Outputs]  # by runtime, as `Model.runtime` names it

    def check(self, model: LoadedModel, precision: Precision) -> None:
        """See that a model says the same now; where it was never asked, the same as the reference.

        Raises:
            UnusableError: It does not.
        """
        expected = self.outputs.get(model.runtime, self.outputs[REFERENCE])
        _, found = model.outputs(self.slices)
        readings = [model.info.decision.reading(alone=alone) for alone in (True, False)]
        furthest = float(np.max([np.abs(read.logits(found) - read.logits(expected)) for read in readings]))
        if not furthest <= _TOLERANCE[precision]:  # nor not a number
            raise UnusableError(
                f"{model.runtime} is broken on this machine: a logit of a phantom differs by {furthest:.3g}, "
                f"at most {_TOLERANCE[precision]:g} is allowed."
            )


def golden_slices(recipe: Input) -> Slices:
    """Draw slices of a phantom with lesions, as a model with this input sees them."""
    drawn = list(draw(SLICES + 2, _MATRIX, _SEED, lesions=True))[1:-1]
    grays = [lung_window(slice_.hu) for slice_ in drawn]
    (way,) = ways_of(recipe, alone=False)
    return np.stack([find_place(gray, way, recipe).take(gray) for gray in grays])


def save_golden(golden: Golden, path: Path) -> None:
    """Write a proof; the same one gives the same bytes."""
    save_file({_SLICES: golden.slices, **golden.outputs}, path)
    path.chmod(0o644)  # safetensors lets nobody else read it


def read_golden(path: Path) -> Golden:
    """Read a proof.

    Raises:
        UnusableError: It is missing or damaged.
    """
    try:
        arrays = load_file(path)
        return Golden(arrays.pop(_SLICES), arrays)
    except (OSError, SafetensorError, KeyError) as error:
        raise UnusableError(f"The proof {path} cannot be read: {error}.") from error
