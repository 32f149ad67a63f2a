"""The file of a model's weights, which says what network it is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lungnode.errors import UnusableError
from lungnode.recipe import Network

Weights = dict[str, NDArray[Any]]  # torchvision's names; convolutions as (out, in, rows, columns)

KERNEL: Final = 4  # dimensions of a convolution's kernel
_NETWORK: Final = "network"  # in the file's header


@dataclass(frozen=True)
class StoredWeights:
    """What a file holds."""

    weights: Weights
    network: str  # backbone and topology as in "resnet50 v1.5"; empty where the file does not say


def name_of(network: Network) -> str:
    """Say what decides whether weights fit: backbone and topology."""
    return f"{network.backbone} {network.topology}"


def write_weights(weights: Mapping[str, NDArray[Any]], network: Network, path: Path) -> None:
    """Write weights; the same ones give the same bytes.

    Kernels are halved to 16 bits. Biases and statistics stay as they are: they are few, and those of a
    network that takes 0 to 255 can exceed what 16 bits hold.

    Raises:
        UnusableError: A weight is no finite number, or none in 16 bits: the training has diverged.
    """
    written = {}
    for name, value in weights.items():
        with np.errstate(over="ignore"):  # it becomes infinite, which is looked for
            kept = np.ascontiguousarray(value, np.float16 if value.ndim == KERNEL else np.float32)
        if not np.isfinite(kept).all():
            raise UnusableError(f"The weights {name} are not all finite numbers: the training has diverged.")
        written[name] = kept
    # One entry only: several would be written in an order that changes from run to run.
    save_file(written, path, {_NETWORK: name_of(network)})
    path.chmod(0o644)  # safetensors lets nobody else read it; whoever may open the folder may use the model


def read_weights(path: Path) -> StoredWeights:
    """Read weights.

    Raises:
        UnusableError: The file is missing or damaged.
    """
    try:
        with safe_open(path, "numpy") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return StoredWeights(weights, (file.metadata() or {}).get(_NETWORK, ""))
    except (OSError, SafetensorError) as error:
        raise UnusableError(f"The weights {path} cannot be read: {error}.") from error
