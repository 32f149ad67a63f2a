"""The list of samples as a CSV file, and the digest that says whether two lists are the same.

Columns: `path` (relative to the file's folder), `label` (positive or negative) and `patient` must be there;
`split`, `source`, `study`, `healthy_scan` and `sha256` may be; each further column is an attribute.
"""

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from lungnode.errors import UnavailableError, UnusableError
from trainer.attributes import listed_attributes
from trainer.grays import file_digest
from trainer.samples import NEGATIVE, POSITIVE, Sample, Split

REQUIRED: Final = ("path", "label", "patient")
COLUMNS: Final = (*REQUIRED, "split", "source", "study", "healthy_scan", "sha256", "position_mm")
_Value = TypeVar("_Value")
_YES_NO: Final = {"": False, "no": False, "yes": True}


def write_manifest(samples: Sequence[Sample], path: Path) -> None:
    """Write samples, in their order, so that the file is either whole or not there.

    Raises:
        UnavailableError: It cannot be written.
    """
    attributes = sorted({name for sample in samples for name in sample.attributes})
    temporary = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, (*COLUMNS, *attributes), restval="", lineterminator="\n")
            table.writeheader()
            table.writerows(_row(sample, path.parent.resolve()) for sample in samples)
        temporary.replace(path)
    except OSError as error:
        raise UnavailableError(f"The list {path} cannot be written: {error.strerror}.") from error


def _row(sample: Sample, folder: Path) -> dict[str, str]:
    return {
        "path": os.path.relpath(sample.path.resolve(), folder),
        "label": sample.label,
        "patient": sample.group,
        "split": sample.split or "",
        "source": sample.source,
        "study": sample.study,
        "healthy_scan": "yes" if sample.healthy_scan else "no",
        "sha256": sample.digest,
        "position_mm": "" if sample.position_mm is None else f"{sample.position_mm:g}",
    } | dict(sample.attributes)


def read_manifest(path: Path) -> list[Sample]:
    """Read the samples of a CSV file, in their order.

    Raises:
        UnusableError: A column is missing, or a line cannot be used: the sentence has its number.
        UnavailableError: It cannot be read.
    """
    found: dict[Path, _Line] = {}
    samples = []
    for line in _lines(path):
        sample = line.sample()
        earlier = found.setdefault(sample.path, line)
        if earlier is not line:
            raise line.problem(f"the image {line.values['path']} is in line {earlier.number} already")
        samples.append(sample)
    if not samples:
        raise UnusableError(f"The list {path} names no image.")
    return samples


def _lines(path: Path) -> "Iterator[_Line]":
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            _check_columns(path, table.fieldnames or ())
            for values in table:
                yield _Line(path, table.line_num, values)
    except OSError as error:
        raise UnavailableError(f"The list {path} cannot be read: {error.strerror}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UnusableError(f"The list {path} is no CSV file in UTF-8: {error}.") from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    twice = next((name for number, name in enumerate(names) if name and name in names[:number]), None)
    if twice:
        raise UnusableError(f"The list {path} has two columns {twice}.")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise UnusableError(
            f"The list {path} has no column {missing[0]}; its first line names the columns, with commas: "
            f"{', '.join(REQUIRED)} and, if known, {', '.join(COLUMNS[len(REQUIRED) :])}."
        )


@dataclass(frozen=True)
class _Line:
    """One line of a list, as it stands there."""

    file: Path
    number: int
    values: Mapping[str, str]

    def sample(self) -> Sample:
        """Make its sample."""
        if None in self.values or None in self.values.values():
            raise self.problem("it has not as many values as there are columns")
        cell = {name: value.strip() for name, value in self.values.items()}
        if not cell["path"] or "\0" in cell["path"]:
            raise self.problem("path is empty or no name of a file")
        return Sample(
            source=cell.get("source") or self.file.stem,
            path=self.file.parent / cell["path"],
            positive=self._one_of("label", {POSITIVE: True, NEGATIVE: False}),
            group=cell["patient"] or cell["path"],
            split=self._one_of("split", {"": None} | {split.value: split for split in Split}),
            study=cell.get("study", ""),
            healthy_scan=self._one_of("healthy_scan", _YES_NO),
            attributes=listed_attributes({name: cell[name] for name in cell if name and name not in COLUMNS}),
            digest=cell.get("sha256", "").lower(),
            position_mm=self._number("position_mm"),
        )

    def _one_of(self, column: str, known: Mapping[str, _Value]) -> _Value:
        value = (self.values.get(column) or "").strip().lower()
        if value not in known:
            raise self.problem(f"{column} is {value!r}; it must be {' or '.join(filter(None, known))}")
        return known[value]

    def _number(self, column: str) -> float | None:
        value = (self.values.get(column) or "").strip()
        try:
            found = float(value) if value else None
        except ValueError:
            found = math.nan
        if found is not None and not math.isfinite(found):
            raise self.problem(f"{column} is {value!r}; it must be a number or empty")
        return found

    def problem(self, what: str) -> UnusableError:
        """Return the error that names this line."""
        return UnusableError(f"The list {self.file} cannot be used, line {self.number}: {what}.")


def digest_samples(samples: Iterable[Sample]) -> str:
    """Return a SHA-256 that is the same for the same slices, labels, patients, studies and splits.

    Paths and the order do not count: a copy of the data elsewhere has the same digest.
    """
    lines = sorted(
        json.dumps([s.digest or file_digest(s.path), s.label, s.group, s.study, s.split or ""])
        for s in samples
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
