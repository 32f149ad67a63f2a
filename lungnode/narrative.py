"""A Structured Report as text, for people without a viewer."""

from typing import Final

from pydicom.dataset import Dataset

INDENT: Final = "  "
# Source: PS3.3 Table C.17-5, the attribute that holds the value of each value type.
VALUES: Final = {
    "TEXT": "TextValue",
    "UIDREF": "UID",
    "PNAME": "PersonName",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
}


def describe(report: Dataset) -> str:
    """Return the content tree, an item a line, images counted instead of listed; no patient is named."""
    flags = [report.get(name) for name in ("CompletionFlag", "VerificationFlag", "PreliminaryFlag")]
    lines = [
        f"{report.get('SeriesDescription', 'Report')} ({', '.join(str(flag) for flag in flags if flag)})"
    ]
    lines += _tree(report, 0)
    return "\n".join(lines)


def _tree(item: Dataset, depth: int) -> list[str]:
    name = item.ConceptNameCodeSequence[0].CodeMeaning
    lines = [f"{INDENT * depth}{name}: {_value(item)}".rstrip(": ")]
    children = item.get("ContentSequence", [])
    for child in children:
        if child.ValueType != "IMAGE":
            lines += _tree(child, depth + 1)
    images = [child for child in children if child.ValueType == "IMAGE"]
    if images:
        lines.append(
            f"{INDENT * (depth + 1)}{images[0].ConceptNameCodeSequence[0].CodeMeaning}: {_count(images)}"
        )
    return lines


def _count(images: list[Dataset]) -> str:
    frames = sum(len(_frames(image)) for image in images)
    return f"{len(images)} images" if not frames else f"{frames} frames of {len(images)} images"


def _frames(image: Dataset) -> list[int]:
    numbers = image.ReferencedSOPSequence[0].get("ReferencedFrameNumber") or []
    return [numbers] if isinstance(numbers, int) else list(numbers)


def _value(item: Dataset) -> str:
    if item.ValueType == "CODE":
        return str(item.ConceptCodeSequence[0].CodeMeaning)
    if item.ValueType == "NUM":
        measured = item.MeasuredValueSequence[0]
        unit = measured.MeasurementUnitsCodeSequence[0].CodeMeaning
        return f"{float(measured.NumericValue):g} ({unit})"
    value = str(item.get(VALUES.get(item.ValueType, ""), ""))
    return value.rstrip("^") if item.ValueType == "PNAME" else value
