"""The attributes of an object as DICOM JSON; long values are pointed to. Source: PS3.18 F.2."""

from collections.abc import Iterator
from typing import Any, Final

from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.tag import Tag

from lungnode.untrusted import untrusted

THRESHOLD: Final = 1024  # bytes from which a value is pointed to
_BINARY: Final = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
_PIXELS: Final = 0x7FE00010


def as_json(ds: Dataset, address: str) -> dict[str, Any]:
    """Return the attributes of an object that was read without its pixels.

    Raises:
        UnusableError: They cannot be read.
    """
    with untrusted("The attributes cannot be read"):
        paths = {id(element): path for path, element in _long_values(ds)}

        def point(element: DataElement) -> str:
            return f"{address}/bulkdata/{paths.get(id(element), f'{element.tag:08X}')}"

        document: dict[str, Any] = ds.to_json_dict(
            bulk_data_threshold=THRESHOLD, bulk_data_element_handler=point, suppress_invalid_tags=True
        )
        if "Rows" in ds:
            document["7FE00010"] = {"vr": "OW", "BulkDataURI": f"{address}/bulkdata/7FE00010"}
        # Source: PS3.18 10.4.1.1.2, the file's syntax is told as Available Transfer Syntax UID.
        document["00083002"] = {"vr": "UI", "Value": [str(ds.file_meta.TransferSyntaxUID)]}
        return document


def bulk_value(ds: Dataset, path: str) -> bytes | None:
    """Return the long value of a path like `00289145/1/00289145`; None when there is none."""
    with untrusted("The value cannot be read"):
        for found, element in _long_values(ds):
            if found == path.upper():
                return bytes(element.value)
    return None


def _long_values(ds: Dataset, before: str = "") -> Iterator[tuple[str, DataElement]]:
    """Yield the long binary values of a data set and its items, each with its path."""
    for element in ds:
        path = f"{before}{element.tag:08X}"
        if element.VR == "SQ":
            for number, item in enumerate(element.value or (), start=1):
                yield from _long_values(item, f"{path}/{number}/")
        elif element.VR in _BINARY and (element.tag == Tag(_PIXELS) or len(element.value or b"") > THRESHOLD):
            yield path, element
