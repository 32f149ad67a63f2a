"""A second opinion on every exported file, from a table and code that did not make it.

The table is the de-identification procedure of grand-challenge.org for CT, drawn from another edition of
PS3.15 than dicom-anonymizer's; the values are the original's, looked for in the bytes of the export.
"""

import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from grand_challenge_dicom_de_id_procedure import procedure
from pydicom import DataElement, Dataset, dcmread
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian

from lungnode.deidentify.kept import CHARACTERISTICS, DESCRIPTORS, clean
from lungnode.deidentify.originals import identifiers, values_of
from lungnode.errors import UnusableError

_FROM_PROFILE: Final = "[AUTO] Basic Profile"  # other rules are that site's own
_UNCHANGED: Final = (
    "SOPClassUID", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PhotometricInterpretation", "NumberOfFrames", "PixelSpacing", "SliceThickness", "ImagePositionPatient",
    "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "InstanceNumber", "PixelData",
)  # fmt: skip
_META_START: Final = 132 + 12  # preamble, DICM, and the element that tells how long the meta group is


def verify(original: Path, exported: Path) -> None:
    """Refuse an export that holds what it must not, or lost what it must keep.

    Raises:
        UnusableError: It names the attribute and the rule.
    """
    before, after = dcmread(original), dcmread(exported)
    problems = [*_rules(before, after), *_changes(before, after), *_leaks(before, after, exported)]
    if problems:
        raise UnusableError(f"the check found that {problems[0]}")


def _rules(before: Dataset, after: Dataset) -> Iterator[str]:
    """Yield each breach of the second table, and of what PS3.15 asks of every object."""
    if after.get("PatientIdentityRemoved") != "YES" or not after.get("DeidentificationMethodCodeSequence"):
        yield "it does not say how it was de-identified"
    for holder, element in _walk(before, after):
        problem = _problem(element, holder)
        if problem:
            yield f"{element.keyword or element.tag} {problem}"


def _problem(element: DataElement, original: Dataset) -> str:
    """Say what is wrong with one attribute, or nothing; `original` is the data set or item it came from."""
    first = original.get(element.tag)
    same = first is not None and values_of(first) == values_of(element) != []
    rule = _table().get(int(element.tag), "")
    if element.tag.is_private:
        return "is private and still there"
    if element.keyword in DESCRIPTORS:
        return "" if all(clean(value) == value for value in values_of(element)) else "holds unknown words"
    if element.VR in {"DA", "DT"}:
        return "was not moved" if same else ""
    if element.VR == "TM" or element.keyword in CHARACTERISTICS:
        return ""
    if rule == "X":
        return "is still there; the profile removes it"
    return "has its first value; the profile replaces it" if same and rule in {"D", "U", "Z"} else ""


def _changes(before: Dataset, after: Dataset) -> Iterator[str]:
    """Yield what de-identification must leave alone and did not."""
    if before.file_meta.TransferSyntaxUID != after.file_meta.TransferSyntaxUID:
        yield "its transfer syntax was changed"
    for keyword in _UNCHANGED:
        if before.get(keyword) != after.get(keyword):
            yield f"{keyword} was changed"


def _leaks(before: Dataset, after: Dataset, exported: Path) -> Iterator[str]:
    """Yield each identifying value of the original that stands anywhere in the bytes of the export."""
    pixels: bytes = after.PixelData
    content = _inflated(exported.read_bytes(), after).replace(pixels, b"").lower()
    for own in _own_words(after):  # a patient may be called Long, as in longitudinal
        content = content.replace(own.encode().lower(), b"")
    for identifier in identifiers(before):
        if identifier.is_in(content):
            yield f"what {identifier.keyword} held is still in it"


def _own_words(after: Dataset) -> Iterator[str]:
    yield from values_of(after["DeidentificationMethod"])
    for item in after.DeidentificationMethodCodeSequence:
        yield item.CodeMeaning


def _inflated(content: bytes, ds: Dataset) -> bytes:
    """Return the bytes of a file with a deflated data set inflated. Source: PS3.5 A.5."""
    if ds.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return content
    start = _META_START + int(ds.file_meta.FileMetaInformationGroupLength)
    return content[:start] + zlib.decompress(content[start:], -zlib.MAX_WBITS)


def _walk(before: Dataset, after: Dataset) -> Iterator[tuple[Dataset, DataElement]]:
    """Yield every element of the export, with the data set or item of the original that it came from."""
    for element in after:
        yield before, element
        if element.VR == "SQ":
            items: Any = before.get(element.keyword) or []
            for position, item in enumerate(element.value):
                yield from _walk(items[position] if position < len(items) else Dataset(), item)


@cache
def _table() -> dict[int, str]:
    """Return the second table's rule for each attribute of CT that PS3.15 names: D, U, X or Z."""
    rules = procedure["sopClass"][CTImageStorage]["tag"]
    return {
        int(tag[1:5] + tag[6:10], 16): rule["default"]
        for tag, rule in rules.items()
        if rule["justification"] == _FROM_PROFILE and "X" not in tag  # a repeating group, 60XX
    }
