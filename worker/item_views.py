"""How a classified item is told: as JSON, and as pictures with the class map in colour."""

from pathlib import Path
from typing import Any, Final

from PIL import Image
from pydicom import Dataset

from lungnode.heatmap import overlay, spread_highest, upsample
from worker.classify import Item
from worker.outputs.legend import annotate
from worker.outputs.wording import RESEARCH_NOTICE, slice_title
from worker.result import SliceFinding

HEATMAPS: Final = 20  # of a study, the same as a node sends by default


def item_record(item: Item) -> dict[str, Any]:
    """Return an item of the JSON document."""
    finding = item.finding
    return {
        "path": str(item.task.path),
        "kind": item.task.kind,
        **({"study_instance_uid": item.task.headers[0].study_instance_uid} if item.task.headers else {}),
        "probability": finding.probability,
        "verdict": str(finding.verdict),
        "reason": finding.reason,
        "notes": list(finding.choice),
        "slices": [_slice_record(item, shown) for shown in finding.slices],
        "seconds": round(item.seconds, 3),
    }


def _slice_record(item: Item, shown: SliceFinding) -> dict[str, Any]:
    if item.task.is_picture:
        return {"path": str(item.task.path), "probability": shown.probability}
    frame = {} if shown.frame is None else {"frame": shown.frame}
    return {"sop_instance_uid": shown.sop_instance_uid, **frame, "probability": shown.probability}


def draw_heatmaps(item: Item, folder: Path, prefix: str) -> dict[int, Path]:
    """Write the most suspicious slices of an item as PNG files; return them by the slice's place.

    Raises:
        OSError: One cannot be written.
    """
    slices, drawn = item.finding.slices, {}
    for index in spread_highest([shown.probability for shown in slices], HEATMAPS):
        gray = item.gray(slices[index])
        activation = upsample(slices[index].class_map, slices[index].box, *gray.shape)
        title = slice_title(slices[index], Dataset())
        path = folder / f"{prefix}-{index + 1:04d}.png"
        Image.fromarray(annotate(overlay(gray, activation), title, RESEARCH_NOTICE)).save(path)
        drawn[index] = path
    return drawn
