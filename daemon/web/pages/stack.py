"""The slices of a study from head to feet, as the viewer takes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from db.models import Analysis
from db.slices import StoredImage
from lungnode.geometry import normal

AXIAL: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Shown:
    """One slice of the viewer."""

    sop_instance_uid: str
    frame: int | None = None  # of a multi-frame image
    probability: float | None = None  # None: not analysed
    heatmap: int = 0  # its place among the analysed slices, from 1; 0: it has none


@dataclass(frozen=True)
class Stack:
    """What the viewer scrolls through."""

    series_instance_uid: str
    slices: Sequence[Shown] = field(default_factory=tuple)

    @property
    def first(self) -> int:
        """The slice that is shown first: the most suspicious one, or the middle."""
        known = [
            (each.probability, -at) for at, each in enumerate(self.slices) if each.probability is not None
        ]
        return -max(known)[1] if known else len(self.slices) // 2

    @property
    def is_analysed(self) -> bool:
        """Whether any slice has a probability."""
        return any(each.probability is not None for each in self.slices)

    def records(self) -> list[tuple[str, int, float | None, int]]:
        """Return each slice as the viewer's script reads it."""
        return [
            (each.sop_instance_uid, each.frame or 0, _rounded(each.probability), each.heatmap)
            for each in self.slices
        ]

    def outline(self) -> str:
        """Return the probabilities as a path: one unit a slice, 0 at 100 and 1 at 0 of the height."""
        steps = (f"V{100 - 100 * (each.probability or 0):.1f}h1" for each in self.slices)
        return f"M0 100{''.join(steps)}V100Z"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def stack_of(series_instance_uid: str, images: Sequence[StoredImage], analysis: Analysis | None) -> Stack:
    """Return a series from head to feet; what was analysed has its probability.

    Of multi-frame images the index knows no positions: what was analysed of them comes as it was analysed.
    """
    details: dict[str, Any] = analysis.details if analysis else {}
    is_chosen = details.get("series_instance_uid") == series_instance_uid
    analysed = details.get("slices", []) if is_chosen else []
    if any(image.frames > 1 for image in images):
        return Stack(series_instance_uid, tuple(_of_frames(images, analysed)))
    known = {each["sop_instance_uid"]: (each["probability"], at) for at, each in enumerate(analysed, start=1)}
    shown = tuple(
        Shown(image.sop_instance_uid, None, *known.get(image.sop_instance_uid, (None, 0)))
        for image in sorted(images, key=_height)
    )
    return Stack(series_instance_uid, shown)


def _of_frames(images: Sequence[StoredImage], analysed: Sequence[dict[str, Any]]) -> Iterator[Shown]:
    here = {image.sop_instance_uid for image in images}
    for at, each in enumerate(analysed, start=1):
        if each["sop_instance_uid"] in here:
            yield Shown(each["sop_instance_uid"], each["frame"], each["probability"], at)
    if not analysed:
        for image in images:
            yield from (Shown(image.sop_instance_uid, frame) for frame in range(1, image.frames + 1))


def _height(image: StoredImage) -> tuple[float, float]:
    """Order by position, the head first; without one, by Instance Number."""
    number = float("inf") if image.instance_number is None else image.instance_number
    try:
        x, y, z = (float(value) for value in image.position or ())
        a, b, c, d, e, f = (float(value) for value in image.orientation or AXIAL)
    except ValueError:
        return 0.0, number
    across = normal((a, b, c, d, e, f))
    height = x * across[0] + y * across[1] + z * across[2]
    return (-height if isfinite(height) else 0.0), number
