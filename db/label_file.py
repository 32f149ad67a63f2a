"""Labels as a CSV file, as spreadsheets write it: read line by line with every problem named, and written."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, TypeVar

from db.label_policy import Opinion
from db.models import LabelSource, LabelValue
from lungnode.errors import UnusableError

IDENTIFIERS: Final = {  # column: the attribute's name in the Standard
    "study_instance_uid": "Study Instance UID",
    "accession_number": "Accession Number",
    "patient_id": "Patient ID",
}
COLUMNS: Final = ("study_instance_uid", "label", "source", "reader", "date", "symptomatic")  # as exported
_KNOWN: Final = {
    **{name.replace("_", ""): name for name in (*IDENTIFIERS, *COLUMNS, "study_date", "studies")},
    "studyuid": "study_instance_uid",
    "accession": "accession_number",
    "patient": "patient_id",
    "value": "label",
    "symptoms": "symptomatic",
}
VALUES: Final[Mapping[LabelValue, frozenset[str]]] = {
    LabelValue.POSITIVE: frozenset(
        ("positive", "pos", "1", "1.0", "+", "yes", "true", "detected", "covid", "covid-19")
    ),
    LabelValue.NEGATIVE: frozenset(
        ("negative", "neg", "0", "0.0", "-", "no", "false", "not detected", "noncovid", "non-covid", "normal")
    ),
    LabelValue.UNCERTAIN: frozenset(
        ("uncertain", "unclear", "indeterminate", "equivocal", "inconclusive", "undetermined")
    ),
}
SOURCES: Final[Mapping[LabelSource, frozenset[str]]] = {
    LabelSource.RT_PCR: frozenset(("rt-pcr", "rt_pcr", "rtpcr", "rt pcr", "pcr")),
    LabelSource.READER: frozenset(("reader", "radiologist")),
    LabelSource.CLINICAL: frozenset(("clinical", "diagnosis")),
    LabelSource.IMPORT: frozenset(("import",)),
}
SYMPTOMS: Final = {
    "symptomatic": frozenset(("symptomatic", "yes", "true", "1", "1.0")),
    "asymptomatic": frozenset(("asymptomatic", "no", "false", "0", "0.0")),
}
Meaning = TypeVar("Meaning")

READER_MAX: Final = 255  # characters, as the table has it


@dataclass(frozen=True)
class LabelLine:
    """One good line: which study, and what is said of it."""

    number: int  # in the file, from 1
    identifiers: Mapping[str, str]  # by column, without empty ones; all of them hold
    study_date: str  # YYYYMMDD; "" for any
    every_study: bool  # label all studies that the identifiers fit, not just a single one
    opinion: Opinion


@dataclass(frozen=True, order=True)
class Problem:
    """Why a line cannot be used."""

    line: int
    reason: str  # rule and value, without a full stop

    def __str__(self) -> str:
        return f"Line {self.line}: {self.reason}."


@dataclass(frozen=True)
class LabelFile:
    """A file as read."""

    digest: str  # SHA-256 of the file
    lines: tuple[LabelLine, ...]
    problems: tuple[Problem, ...]  # one a bad line
    unread: tuple[str, ...]  # columns that mean nothing to us


def read_label_file(path: Path, source: str = LabelSource.IMPORT, reader: str = "") -> LabelFile:
    """Read a CSV file of labels; `source` and `reader` hold where a line names none.

    Comma, semicolon or tab; UTF-8, or UTF-16 with a byte order mark; any line ends. An optional first line
    `sep=;` is Excel's.

    Raises:
        UnusableError: It cannot be read, is no CSV, or lacks a column that every line needs.
    """
    data = _bytes(path)
    rows = _rows(path, _text(path, data))
    header = next(rows, (0, []))[1]
    columns = _columns(path, header)
    lines: list[LabelLine] = []
    problems = []
    for number, cells in rows:
        try:
            named = _named(columns, len(header), cells)
            lines.append(_line(number, named, {"source": source, "reader": reader}))
        except ValueError as error:
            problems.append(Problem(number, str(error)))
    unread = tuple(name for place, name in enumerate(header) if place not in columns and name)
    return LabelFile(hashlib.sha256(data).hexdigest(), tuple(lines), tuple(problems), unread)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableError(f"The labels {path} cannot be read: {error.strerror}.") from error


def _text(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableError(
            f"The labels {path} are no UTF-8 text (byte {error.start}); save them as CSV UTF-8."
        ) from error
    if "\0" in text:
        raise UnusableError(f"The labels {path} are no text: they hold a null character.")
    return text


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line that is not empty, and its cells without blanks around them."""
    first = text.split("\n", 1)[0].removesuffix("\r")
    told = first[4:] if first.lower().startswith("sep=") else ""
    delimiter = told or max(",;\t", key=first.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        if told:
            next(reader)
        number = reader.line_num + 1
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield number, stripped
            number = reader.line_num + 1  # a quoted cell may go over several lines
    except (csv.Error, TypeError) as error:
        raise UnusableError(f"The labels {path} are no CSV file: {error}, at line {number}.") from error


def _columns(path: Path, header: list[str]) -> dict[int, str]:
    """Return the columns that mean something, by their place."""
    found = {place: _KNOWN.get(_plain(name), "") for place, name in enumerate(header)}
    columns = {place: name for place, name in found.items() if name}
    names = list(columns.values())
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UnusableError(f"The labels {path} have the column {twice[0]} more than once.")
    if "label" not in names or not set(names) & set(IDENTIFIERS):
        raise UnusableError(
            f"The labels {path} need a column label and one of {', '.join(IDENTIFIERS)}; "
            f"the first line has: {', '.join(header) or 'nothing'}."
        )
    return columns


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _named(columns: Mapping[int, str], width: int, cells: list[str]) -> dict[str, str]:
    if len(cells) > width and any(cells[width:]):
        raise ValueError(f"{len(cells)} cells are more than the first line's {width}")
    return {columns[place]: cell for place, cell in enumerate(cells) if place in columns}


def _line(number: int, cells: Mapping[str, str], defaults: Mapping[str, str]) -> LabelLine:
    identifiers = {name: cells[name] for name in IDENTIFIERS if cells.get(name)}
    if not identifiers:
        raise ValueError(f"no study is named; one of {', '.join(IDENTIFIERS)} is needed")
    studies = cells.get("studies", "").lower()
    if studies not in {"", "one", "all"}:
        raise ValueError(f"the column studies says one or all, got {studies!r}")
    told = {name: cell for name, cell in cells.items() if cell}
    study_date = _date(cells.get("study_date", "")).replace("-", "")
    return LabelLine(number, identifiers, study_date, studies == "all", parse_opinion({**defaults, **told}))


def parse_opinion(cells: Mapping[str, str]) -> Opinion:
    """Return what a line says, by the names of its columns.

    Raises:
        ValueError: A value is not one of those that are known; says so in one clause.
    """
    reader = " ".join(cells.get("reader", "").split())
    if len(reader) > READER_MAX or not reader.isprintable():
        raise ValueError(f"a reader has at most {READER_MAX} printable characters, got {reader[:40]!r}")
    value = _choice("label", cells.get("label", ""), VALUES)
    source = _choice("source", cells.get("source", ""), SOURCES)
    if source == LabelSource.READER and not reader:
        raise ValueError(
            "a reader's label needs the reader's name or code, or two readers overwrite each other"
        )
    told = cells.get("symptomatic", "")
    symptomatic = _choice("symptomatic", told, SYMPTOMS) == "symptomatic" if told else None
    return Opinion(value, source, reader, _date(cells.get("date", "")), symptomatic)


def _choice(column: str, told: str, known: Mapping[Meaning, frozenset[str]]) -> Meaning:
    for meaning, words in known.items():
        if told.lower() in words:
            return meaning
    raise ValueError(f"{column} is one of {', '.join(map(str, known))}, got {told!r}")


def _date(told: str) -> str:
    try:
        return date.fromisoformat(told).isoformat() if told else ""
    except ValueError as error:
        raise ValueError(f"a date is YYYY-MM-DD or YYYYMMDD, got {told!r}") from error


def format_labels(rows: Iterable[tuple[str, Opinion]]) -> str:
    """Return labels, each with its Study Instance UID, as the CSV text that `read_label_file` reads."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    symptoms = {True: "symptomatic", False: "asymptomatic", None: ""}
    for uid, said in rows:
        told = symptoms[said.symptomatic]
        writer.writerow((uid, said.value, said.source, said.reader, said.labelled_on, told))
    return out.getvalue()
