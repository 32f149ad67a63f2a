"""A Structured Report as text, for people without a viewer."""

from pydicom.dataset import Dataset

INDENT = "  "


def describe(report: Dataset) -> str:
    """Return the content tree, an item a line, images counted instead of listed."""
    lines = [str(report.get("PatientName", ""))]
    _describe_item(report, 0, lines)
    return "\n".join(lines)


def _describe_item(item: Dataset, depth: int, lines: list[str]) -> None:
    name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
    lines.append(f"{INDENT * depth}{name}: {_value(item)}".rstrip(": "))
    children = item.get("ContentSequence", [])
    images = sum(child.ValueType == "IMAGE" for child in children)
    for child in children:
        if child.ValueType != "IMAGE":
            _describe_item(child, depth + 1, lines)
    if images:
        lines.append(f"{INDENT * (depth + 1)}{images} images")


def _value(item: Dataset) -> str:
    if item.ValueType == "CODE":
        return str(item.ConceptCodeSequence[0].CodeMeaning)
    if item.ValueType == "NUM":
        return str(item.MeasuredValueSequence[0].NumericValue)
    return str(item.get({"TEXT": "TextValue", "UIDREF": "UID"}.get(item.ValueType, ""), ""))
