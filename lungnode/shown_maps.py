"""What a heatmap shows of each analysed slice, as a file beside the outputs: viewers paint it themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lungnode.durable import replaced
from lungnode.errors import UnusableError
from lungnode.gray import Box
from lungnode.untrusted import untrusted

if TYPE_CHECKING:
    from lungnode.heatmap import ClassMap  # whoever only needs the file's name loads no SciPy

MAPS_FILE: Final = "class-maps.npz"  # in the folder of a study's revision
Levels = NDArray[np.uint8]  # shape (slices, rows, columns), activation 0 to 1 as 0 to 255


@dataclass(frozen=True)
class ShownMaps:
    """The class maps of the slices of one analysis, in its order, and the part of the matrix each covers."""

    levels: Levels
    boxes: tuple[Box, ...]


def write_maps(path: Path, class_maps: Sequence["ClassMap"], boxes: Sequence[Box]) -> None:
    """Write class maps, which share one shape, durably.

    Raises:
        OSError: The disk does not take them.
    """
    levels = np.rint(np.stack(class_maps).clip(0, 1) * 255).astype(np.uint8)
    edges = np.array([(box.top, box.bottom, box.left, box.right) for box in boxes], np.int32)
    with replaced(path) as file:
        np.savez_compressed(file, levels=levels, boxes=edges)


def read_maps(path: Path) -> ShownMaps | None:
    """Read class maps; None where there are none: an analysis by an earlier version, or deleted files.

    Raises:
        UnusableError: The file is damaged.
    """
    if not path.is_file():
        return None
    with untrusted("The class maps cannot be read"), np.load(path, allow_pickle=False) as stored:
        levels, edges = np.asarray(stored["levels"]), np.asarray(stored["boxes"])
        if levels.dtype != np.uint8 or levels.ndim != 3 or edges.shape != (len(levels), 4):  # noqa: PLR2004
            raise UnusableError("The class maps have another shape than we write.")
        return ShownMaps(levels, tuple(Box(*map(int, each)) for each in edges))
