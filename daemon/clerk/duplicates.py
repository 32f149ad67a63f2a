"""The same SOP Instance UID again: one instance, or a conflict?"""

import io
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation

from lungnode.decode import stored_values
from lungnode.errors import UnusableError

# What an instance carries; a PACS may coerce the rest (names, IDs, dates) on its way.
_CONTENTS: Final = ("FloatPixelData", "DoubleFloatPixelData", "ContentSequence", "EncapsulatedDocument")
_LAYOUT: Final = ("Rows", "Columns", "NumberOfFrames", "RescaleSlope", "RescaleIntercept")


def conflict_reason(first: Path, second: Path) -> str:
    """Return why two files of one SOP Instance UID are not the same instance; empty when they are.

    Another transfer syntax and other attributes than those that give the pixels their meaning are no reason.

    Raises:
        OSError: A file cannot be read.
    """
    files = [io.BytesIO(path.read_bytes()) for path in (first, second)]
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _difference(dcmread(files[0]), dcmread(files[1]))
        except UnusableError as error:
            return f"The pixels cannot be compared: {error}"
        except Exception as error:  # noqa: BLE001 - damaged data sets make pydicom raise almost anything
            return f"The contents cannot be compared ({type(error).__name__})."


def _difference(one: Dataset, two: Dataset) -> str:
    for keyword in (*_LAYOUT, *_CONTENTS):
        if one.get(keyword) != two.get(keyword):
            return f"{keyword} differs."
    if ("PixelData" in one) != ("PixelData" in two):
        return "Only one of the two has pixels."
    if "PixelData" not in one or _same_bytes(one, two):
        return ""
    for frame in range(1, int(one.get("NumberOfFrames") or 1) + 1):
        if not np.array_equal(stored_values(one, frame), stored_values(two, frame)):
            return f"The pixels of frame {frame} differ."
    return ""


def _same_bytes(one: Dataset, two: Dataset) -> bool:
    syntaxes = (one.file_meta.TransferSyntaxUID, two.file_meta.TransferSyntaxUID)
    layouts = [(ds.get("BitsAllocated"), ds.get("PixelRepresentation")) for ds in (one, two)]
    return syntaxes[0] == syntaxes[1] and layouts[0] == layouts[1] and bool(one.PixelData == two.PixelData)
