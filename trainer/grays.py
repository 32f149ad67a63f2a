"""The one door through which a slice's file becomes 8-bit gray, in training and in evaluation."""

import hashlib
from pathlib import Path
from typing import Final

from lungnode.errors import UnavailableError, UnusableError
from lungnode.loading import read_instance
from lungnode.pixels import Gray, hounsfield, lung_window, read_image
from trainer.samples import Sample

_PREAMBLE: Final = 128  # bytes before "DICM". Source: PS3.10 7.1


def load_gray(sample: Sample) -> Gray:
    """Read a sample's slice: its whole matrix, in the lung window.

    Raises:
        UnusableError: It is neither DICOM, JPEG nor PNG, damaged, or holds several slices.
        UnavailableError: The file is away.
    """
    return read_gray(sample.path)


def read_gray(path: Path) -> Gray:
    """Read a slice as 8-bit gray, whatever its file type; `load_gray` says what it raises."""
    data = read_file(path)
    if data[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return _dicom_gray(path)
    try:
        return read_image(data)
    except UnusableError as error:
        raise UnusableError(f"The image {path} cannot be used: {error}") from error


def _dicom_gray(path: Path) -> Gray:
    instance = read_instance(path, pixels=True)
    if int(instance.get("NumberOfFrames") or 1) > 1:
        raise UnusableError(
            f"The image {path} holds {instance.NumberOfFrames} slices; a sample is one of them."
        )
    try:
        return lung_window(hounsfield(instance))
    except UnusableError as error:
        raise UnusableError(f"The image {path} cannot be used: {error}") from error


def read_file(path: Path) -> bytes:
    """Read a file.

    Raises:
        UnavailableError: It is missing or its disk fails.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"The file {path} cannot be read: {error.strerror}.") from error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        UnavailableError: It is missing or its disk fails.
    """
    return hashlib.sha256(read_file(path)).hexdigest()
