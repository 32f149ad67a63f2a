"""Plain folders of images with a text file of names for each class, as public data sets come."""

import csv
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from lungnode.errors import UnavailableError, UnusableError
from trainer.attributes import listed_attributes
from trainer.samples import Collection, Sample, Split

PATIENT_COLUMNS: Final = ("patient", "patient_id")  # either names the patient in the CSV of patients


@dataclass(frozen=True)
class ImageLists:
    """Where the images are, and which files say what of them."""

    images: Path
    positives: Path  # names, one a line
    negatives: Path
    validation_positives: Path | None = None  # without both the validation split is drawn
    validation_negatives: Path | None = None
    patients: Path | None = None  # CSV with columns file and patient; others become attributes


def read_image_lists(lists: ImageLists, split: Split | None = None) -> Collection:
    """Read the samples that the lists name.

    Args:
        lists: The files.
        split: Of all samples, TEST for an evaluation; None where the validation lists say, or it is drawn.

    Raises:
        UnusableError: A name is in two lists, has no image or no patient, or one validation list is missing.
        UnavailableError: A list cannot be read.
    """
    folder, named_in = _Folder(lists.images), dict[Path, Path]()  # which list names each file
    samples = []
    for file, positive, part in _parts(lists, split):
        for path in folder.named(file):
            real = path.resolve()
            if real in named_in:
                raise UnusableError(f"The image {path} is named in {named_in[real]} and again in {file}.")
            named_in[real] = file
            group = os.path.relpath(path, lists.images)
            samples.append(Sample(lists.images.name, path, positive, group, part))
    if lists.patients is None:
        return Collection(tuple(samples), notes=(_no_patients(len(samples)),))
    return Collection(tuple(_with_patients(samples, lists.patients)))


def _parts(lists: ImageLists, split: Split | None) -> list[tuple[Path, bool, Split | None]]:
    """Return each list with its label and split."""
    positives, negatives = lists.validation_positives, lists.validation_negatives
    if positives and negatives:
        train, held_out = Split.TRAIN, Split.VALIDATION
        return [
            (lists.positives, True, train),
            (lists.negatives, False, train),
            (positives, True, held_out),
            (negatives, False, held_out),
        ]
    if positives or negatives:
        raise UnusableError(f"{positives or negatives} needs its counterpart: name both validation lists.")
    return [(lists.positives, True, split), (lists.negatives, False, split)]


def _no_patients(count: int) -> str:
    return (
        f"No list of patients was given: each of the {count} images counts as a patient of its own. Where a "
        "patient has several, name the list, or figures are too good: one patient is on both sides."
    )


class _Folder:
    """Finds images by the names that lists use: a path below the folder, or a name that is there once."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UnusableError(f"There is no folder of images {folder}.")
        self._folder = folder

    @cached_property
    def _by_name(self) -> Mapping[str, list[Path]]:
        paths: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._folder.rglob("*")):
            paths[path.name].append(path)
        return paths

    def named(self, file: Path) -> Iterator[Path]:
        """Yield the images that a list names."""
        for number, line in enumerate(_read_text(file).splitlines(), 1):
            name = line.strip()
            if name:
                yield self._find(name, f"The list {file} names {name} in line {number}")

    def _find(self, name: str, where: str) -> Path:
        path = self._folder / name
        if _is_file(path):
            return path
        paths = self._by_name.get(name, ())
        if not paths:
            raise UnusableError(f"{where}, and there is no such file below {self._folder}.")
        if len(paths) > 1:
            both = " and ".join(str(path.relative_to(self._folder)) for path in paths[:2])
            raise UnusableError(f"{where}, which could be {both}: write it with its folder.")
        return paths[0]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have: the list is none
        return False


def _with_patients(samples: list[Sample], file: Path) -> Iterator[Sample]:
    rows = _read_patients(file)
    for sample in samples:
        row = rows.get(sample.group) or rows.get(sample.path.name)
        if row is None:
            raise UnusableError(f"The image {sample.group} has no line in the list of patients {file}.")
        yield replace(sample, group=row.patient, attributes=row.attributes)


@dataclass(frozen=True)
class _Patient:
    patient: str
    attributes: Mapping[str, str]


def _read_patients(file: Path) -> dict[str, _Patient]:
    """Read who is on which image, by the image's name."""
    table = csv.DictReader(_read_text(file).splitlines())
    names = table.fieldnames or ()
    column = next((name for name in PATIENT_COLUMNS if name in names), None)
    if "file" not in names or column is None:
        raise UnusableError(f"The list of patients {file} needs the columns file and patient.")
    rows: dict[str, _Patient] = {}
    for row in table:
        name, patient = (row["file"] or "").strip(), (row[column] or "").strip()
        if not name or not patient:
            raise UnusableError(
                f"The list of patients {file}, line {table.line_num}: file or patient is empty."
            )
        others = {key: value for key, value in row.items() if key not in ("file", column)}
        if rows.setdefault(name, _Patient(patient, listed_attributes(others))).patient != patient:
            raise UnusableError(
                f"The list of patients {file} gives {name} to {rows[name].patient} and, in line "
                f"{table.line_num}, to {patient}."
            )
    return rows


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UnavailableError(f"The list {file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UnusableError(f"The list {file} is no text in UTF-8: {error}.") from error
