"""Reading the files of a study; pixels are decoded by threads, a few slices ahead."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pydicom
from pydicom import Dataset

from lungnode.errors import UnavailableError, UnusableError
from lungnode.pixels import Gray, lung_gray
from lungnode.series import SliceHeader, slice_headers
from lungnode.untrusted import BoundedFile

THREADS: Final = 4  # the codecs release the GIL
AHEAD: Final = 16  # slices decoded before they are asked for


@dataclass(frozen=True)
class Images:
    """The images of a study, as their headers say."""

    headers: tuple[SliceHeader, ...]
    sources: dict[str, Dataset]  # by SOP Instance UID, without pixels
    unreadable: tuple[str, ...] = field(default=())  # a sentence each


def read_instance(path: Path, *, pixels: bool) -> Dataset:
    """Read one DICOM file.

    Raises:
        UnavailableError: The file is away or its disk fails: nothing is known of its content.
        UnusableError: It is no DICOM file, or damaged.
    """
    try:
        with BoundedFile(path) as file:
            return pydicom.dcmread(file, stop_before_pixels=not pixels)
    except Exception as error:  # untrusted bytes: pydicom raises far more than InvalidDicomError
        # pydicom raises OSError for damage as well, but only the system's own carry a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise UnavailableError(f"The file {path} cannot be read: {error.strerror}.") from error
        raise UnusableError(
            f"{path.name} cannot be read as DICOM: {type(error).__name__}, {error}."
        ) from error


def read_images(paths: Sequence[Path]) -> Images:
    """Read the headers of all files; one that cannot be read is told, not raised."""
    headers: list[SliceHeader] = []
    sources: dict[str, Dataset] = {}
    unreadable = []
    for path in paths:
        try:
            instance = read_instance(path, pixels=False)
            if "Rows" in instance:
                headers += slice_headers(instance, path)
                sources[str(instance.SOPInstanceUID)] = instance
        except UnusableError as error:
            unreadable.append(str(error))
    return Images(tuple(headers), sources, tuple(unreadable))


def read_grays(slices: Sequence[SliceHeader]) -> Iterator[Gray | UnusableError]:
    """Decode slices in their order, a few ahead; the error stands in for a slice that cannot be decoded.

    Raises:
        UnavailableError: A file is away: it may come back.
    """
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
        UnavailableError: The file is away.
        UnusableError: It cannot be decoded.
    """
    return lung_gray(read_instance(header.path, pixels=True), header.frame)


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
            return lung_gray(instance, header.frame)
        except UnusableError as error:
            return UnusableError(f"{header.path.name}: {error}")


def _try_read(path: Path) -> Dataset | UnusableError:
    try:
        return read_instance(path, pixels=True)
    except UnusableError as error:
        return error
