"""Reading the files of a study: headers first, then pixels, decoded by threads a few slices ahead."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
from pydicom import Dataset

from lungnode.errors import UnusableError
from lungnode.pixels import Gray, hounsfield, lung_window
from lungnode.series import SliceHeader, slice_headers

THREADS: Final = 4  # the codecs release the GIL
AHEAD: Final = 16  # slices decoded before they are asked for


@dataclass(frozen=True)
class Unreadable:
    """A file without a usable header."""

    path: Path
    reason: str


def read_headers(paths: Iterable[Path]) -> tuple[list[SliceHeader], list[Unreadable]]:
    """Read the slice headers of all files; a file that cannot be read is told, not raised."""
    headers: list[SliceHeader] = []
    unreadable: list[Unreadable] = []
    for path in paths:
        try:
            headers += slice_headers(read_instance(path, pixels=False), path)
        except UnusableError as error:
            unreadable.append(Unreadable(path, str(error)))
    return headers, unreadable


def read_instance(path: Path, *, pixels: bool) -> Dataset:
    """Read one DICOM file.

    Raises:
        UnusableError: It is missing or no DICOM file.
    """
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except Exception as error:  # untrusted bytes: pydicom raises far more than InvalidDicomError
        raise UnusableError(
            f"{path.name} cannot be read as DICOM: {type(error).__name__}, {error}."
        ) from error


def read_grays(slices: Sequence[SliceHeader]) -> Iterator[Gray | UnusableError]:
    """Decode slices in their order, a few ahead; the error stands in for a slice that cannot be decoded."""
    with ThreadPoolExecutor(THREADS, "decode") as pool:
        waiting: deque[Future[Gray | UnusableError]] = deque()
        shared = _SharedInstances(slices)
        try:
            for header in slices:
                waiting.append(pool.submit(shared.gray, header))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def read_gray(header: SliceHeader) -> Gray:
    """Decode one slice: its whole matrix in the lung window.

    Raises:
        UnusableError: The file is away or cannot be decoded.
    """
    return lung_window(hounsfield(read_instance(header.path, pixels=True), header.frame))


class _SharedInstances:
    """Keeps the multi-frame instances of a series in memory while their frames are read."""

    def __init__(self, slices: Sequence[SliceHeader]) -> None:
        paths = {header.path for header in slices if header.frame is not None}
        self._instances: dict[Path, Dataset | UnusableError] = {path: _try_read(path) for path in paths}

    def gray(self, header: SliceHeader) -> Gray | UnusableError:
        instance = self._instances.get(header.path) or _try_read(header.path)
        if isinstance(instance, UnusableError):
            return instance
        try:
            return lung_window(hounsfield(instance, header.frame))
        except UnusableError as error:
            return UnusableError(f"{header.path.name}: {error}")


def _try_read(path: Path) -> Dataset | UnusableError:
    try:
        return read_instance(path, pixels=True)
    except UnusableError as error:
        return error
