"""From the lines of a file to labels: which studies are meant, and what changes; all of it or nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import audit
from db.label_file import IDENTIFIERS, LabelLine, Problem
from db.label_policy import Opinion
from db.labels import Written, chunks, described, patient_of, write
from db.models import Label, Study

_NAMED: Final = 3  # studies that a sentence names before it says how many more there are
_COLUMNS: Final[Mapping[str, Any]] = {name: getattr(Study, name) for name in IDENTIFIERS}
Key = tuple[int, str, str, str]  # study, source, reader, date: what makes two labels the same one


@dataclass(frozen=True)
class Change:
    """One label that a line asks for."""

    line: int
    study: Study
    opinion: Opinion
    row: Label | None  # the label that it updates

    @property
    def key(self) -> Key:
        """Return what makes it the same label as another."""
        return (self.study.id, self.opinion.source, self.opinion.reader, self.opinion.labelled_on)


@dataclass(frozen=True)
class Plan:
    """What an import would do; with any problem it does nothing."""

    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]  # lines that cannot be used
    unknown: tuple[Problem, ...]  # lines whose study is not here


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    counts: Mapping[Written, int]
    updates: tuple[dict[str, Any], ...]  # labels that say something else now


def plan_import(session: Session, lines: Sequence[LabelLine]) -> Plan:
    """Find the studies that the lines mean and the labels that they would update.

    The studies stay locked until the transaction ends, so that two imports follow each other.
    """
    known = _Known(session, lines)
    wanted: dict[Key, Change] = {}
    problems, unknown = [], []
    for line in lines:
        if not known.by_first(line):
            unknown.append(Problem(line.number, f"there is no study with {_told(line)}"))
            continue
        try:
            for study in known.meant(line):
                _want(wanted, Change(line.number, study, line.opinion, None))
        except ValueError as error:
            problems.append(Problem(line.number, str(error)))
    rows = _rows(session, {change.study.id for change in wanted.values()})
    changes = (Change(c.line, c.study, c.opinion, rows.get(key)) for key, c in wanted.items())
    return Plan(tuple(changes), tuple(problems), tuple(unknown))


def _want(wanted: dict[Key, Change], change: Change) -> None:
    before = wanted.setdefault(change.key, change)
    if before.opinion != change.opinion:
        raise ValueError(
            f"it says {_said(change.opinion)} where line {before.line} says {_said(before.opinion)} of the "
            "same study, source, reader and date"
        )


def _said(opinion: Opinion) -> str:
    symptoms = {True: ", symptomatic", False: ", asymptomatic", None: ""}
    return f"{opinion.value}{symptoms[opinion.symptomatic]}"


class _Known:
    """The studies that any line may mean."""

    def __init__(self, session: Session, lines: Sequence[LabelLine]) -> None:
        self._found: dict[tuple[str, str], list[Study]] = {}
        for name, column in _COLUMNS.items():
            for values in chunks(line.identifiers[name] for line in lines if name in line.identifiers):
                query = select(Study).where(column.in_(values)).order_by(Study.id).with_for_update()
                for study in session.scalars(query):
                    self._found.setdefault((name, getattr(study, name)), []).append(study)

    def by_first(self, line: LabelLine) -> list[Study]:
        """Return the studies that the line's first identifier fits."""
        return self._found.get(next(iter(line.identifiers.items())), [])

    def meant(self, line: LabelLine) -> list[Study]:
        """Return the studies that a line labels.

        Raises:
            ValueError: None fits everything that the line says, or several fit and it does not say all.
        """
        fitting = [study for study in self.by_first(line) if _fits(line, study)]
        if not fitting:
            raise ValueError(f"no study has {_told(line)} together")
        if len({patient_of(study) for study in fitting}) > 1:
            raise ValueError(f"{_told(line)} fits studies of several patients: {_some(fitting)}")
        if len(fitting) > 1 and not line.every_study:
            raise ValueError(
                f"{_told(line)} fits {len(fitting)} studies, {_some(fitting)}; give study_instance_uid or "
                "study_date, or say all in a column studies"
            )
        return fitting


def _fits(line: LabelLine, study: Study) -> bool:
    dated = not line.study_date or study.study_date == line.study_date
    return dated and all(getattr(study, name) == value for name, value in line.identifiers.items())


def _told(line: LabelLine) -> str:
    told = [f"{IDENTIFIERS[name]} {value}" for name, value in line.identifiers.items()]
    return " and ".join([*told, *([f"Study Date {line.study_date}"] if line.study_date else [])])


def _some(studies: Sequence[Study]) -> str:
    named = ", ".join(study.study_instance_uid for study in studies[:_NAMED])
    more = len(studies) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _rows(session: Session, study_ids: Iterable[int]) -> dict[Key, Label]:
    found: dict[Key, Label] = {}
    for values in chunks(study_ids):
        for row in session.scalars(select(Label).where(Label.study_id.in_(values))):
            found[row.study_id, row.source, row.reader, row.labelled_on] = row
    return found


def apply_import(session: Session, plan: Plan, file_digest: str, now: datetime) -> Imported:
    """Write every label of a plan without problems; one audit event keeps what was overwritten."""
    counts = Counter(dict.fromkeys(Written, 0))
    updates = []
    for change in plan.changes:
        before = (change.row.value, change.row.symptomatic) if change.row else None
        written = write(session, change.study.id, change.row, change.opinion, now)
        counts[written] += 1
        if before and written == Written.UPDATED:
            updates.append(
                {
                    "line": change.line,
                    "study_instance_uid": change.study.study_instance_uid,
                    **described(change.opinion),
                    "before": {"label": before[0], "symptomatic": before[1]},
                }
            )
    figures = {written.value: counts[written] for written in Written}
    skipped = len(plan.unknown)
    audit.record(session, "labels imported", file_digest, now, updates=updates, skipped=skipped, **figures)
    return Imported(counts, tuple(updates))
