"""What the paths given to `classify` hold: studies, single slices, pictures, and what cannot be used."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydicom import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from lungnode.errors import UnusableError
from lungnode.loading import read_instance
from lungnode.series import SliceHeader, slice_headers

PREAMBLE: Final = 128  # bytes before "DICM". Source: PS3.10 7.1
PICTURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # how JPEG and PNG start
SKIPPED: Final = frozenset({"DICOMDIR", "Thumbs.db", "desktop.ini"})  # about the files beside them


@dataclass(frozen=True)
class Task:
    """One thing to classify."""

    path: Path  # a file, or the folder that holds all files of the study
    kind: Literal["image", "study"]
    headers: tuple[SliceHeader, ...] = ()  # empty for a picture
    problem: str = ""  # why it cannot be classified; empty when it may

    @property
    def is_picture(self) -> bool:
        """A JPEG or PNG file."""
        return not self.headers and not self.problem


def gather(paths: Iterable[Path]) -> list[Task]:
    """List what the paths hold, in their order; a folder is searched to its depth."""
    tasks: list[Task] = []
    for path in paths:
        if path.is_dir():
            tasks += _folder(path)
        else:
            tasks.append(_file(path))
    return tasks


def _file(path: Path) -> Task:
    try:
        headers = _headers(path)
    except UnusableError as error:
        return Task(path, "image", problem=str(error))
    return Task(path, "study" if len(headers) > 1 else "image", tuple(headers))


def _folder(folder: Path) -> Iterator[Task]:
    """Group the DICOM files of a folder by study; each other file stands for itself."""
    studies: dict[str, list[SliceHeader]] = defaultdict(list)
    others: list[Task] = []
    paths, closed = _files(folder)
    for path in paths:
        try:
            headers = _headers(path)
        except UnusableError as error:
            others.append(Task(path, "image", problem=str(error)))
            continue
        if headers:
            studies[headers[0].study_instance_uid] += headers
        else:
            others.append(Task(path, "image"))
    for headers_of_study in studies.values():
        parents = {str(header.path.parent) for header in headers_of_study}
        yield Task(Path(os.path.commonpath(parents)), "study", tuple(headers_of_study))
    yield from others
    for refusal in closed:
        problem = f"The folder {refusal.filename} cannot be read: {refusal.strerror}."
        yield Task(Path(refusal.filename), "study", problem=problem)
    if not (studies or others or closed):
        yield Task(folder, "study", problem=f"The folder {folder} holds no files.")


def _files(folder: Path) -> tuple[list[Path], list[OSError]]:
    """List the files of a folder to its depth, and why folders among it could not be listed."""
    closed: list[OSError] = []
    walked = os.walk(folder, onerror=closed.append)  # follows no link to a folder, so it ends
    found = sorted(Path(parent, name) for parent, _, names in walked for name in names)
    files = [path for path in found if path.is_file() and path.name not in SKIPPED]
    return [path for path in files if not path.name.startswith(".")], closed


def _headers(path: Path) -> list[SliceHeader]:
    """Read the slice headers of a DICOM file; a JPEG or PNG has none.

    Raises:
        UnusableError: It is missing, no file, or neither of the three.
    """
    if path.is_fifo() or path.is_socket():
        raise UnusableError(f"{path} is no file; a pipe or socket is not read.")
    try:
        with path.open("rb") as file:
            start = file.read(PREAMBLE + 4)
    except OSError as error:
        raise UnusableError(f"The file {path} cannot be read: {error.strerror}.") from error
    if start[PREAMBLE:] == b"DICM":
        return slice_headers(_image(path), path)
    if start.startswith(PICTURES):
        return []
    raise UnusableError(
        f"The file {path} is neither DICOM, JPEG nor PNG: it starts with {start[:8].hex(' ') or 'nothing'}."
    )


def _image(path: Path) -> Dataset:
    instance = read_instance(path, pixels=False)
    if instance.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise UnusableError(f"{path} is a DICOMDIR, which only lists files; name its folder, {path.parent}.")
    return instance
