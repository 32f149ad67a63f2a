"""Rows of very many studies, as years of a hospital leave them; the same numbers give the same rows."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, insert, text

from db.models import Analysis, AnalysisState, Base, Delivery, Instance, Label, Study, StudyState
from db.session import transaction

CHUNK: Final = 5_000
START: Final = datetime(2021, 1, 1, tzinfo=UTC)
# fmt: off
_FAMILY: Final = (
    "Müller", "Schmidt", "Meier", "Novak", "Rossi", "García", "Dubois", "Smith", "Jones", "Li", "Wang",
    "Kowalski", "Silva", "Jensen", "Nowak", "Ivanov", "Öztürk", "Hansen", "Moreau", "Weber", "Fischer",
)
_GIVEN: Final = ("Anna", "Jan", "Maria", "Peter", "Lena", "Paul", "Eva", "Tom", "Nina", "Max", "Ida", "Ole")
# fmt: on
_SENDERS: Final = ("CT1", "CT2", "CT3", "EMERGENCY", "TELERAD")
# (share, analysis state, verdict)
_ENDS: Final = (
    (0.62, AnalysisState.DONE, "negative"),
    (0.20, AnalysisState.DONE, "positive"),
    (0.06, AnalysisState.DONE, "undetermined"),
    (0.11, AnalysisState.NOT_APPLICABLE, "not_applicable"),
    (0.006, AnalysisState.QUARANTINED, "error"),
    (0.002, AnalysisState.FAILED, ""),
    (0.002, AnalysisState.QUEUED, ""),
)
_NOTES: Final = ("quiet: no gaps", "complete: 148 of 148", "quiet: not a volume", "incomplete: 3 gaps")
_MODELS: Final = ("lungnode-resnet50 1.0", "lungnode-resnet50 1.1", "ours 20260501.101500")


def fill(engine: Engine, count: int, seed: int = 0) -> None:
    """Add so many studies with their analyses, deliveries, labels and a few instances each."""
    chance = random.Random(seed)  # noqa: S311 - numbers that can be repeated are wanted
    for first in range(1, count + 1, CHUNK):
        numbers = range(first, min(first + CHUNK, count + 1))
        rows: dict[type[Base], list[dict[str, Any]]] = {}
        for number in numbers:
            for table, row in _rows(number, chance):
                rows.setdefault(table, []).append(row)
        with transaction(engine) as session:
            for table in (Study, Instance, Analysis, Delivery, Label):
                if rows.get(table):
                    session.execute(insert(table), rows[table])
    if engine.dialect.name == "postgresql":
        _count_on(engine)


def _count_on(engine: Engine) -> None:
    """Let PostgreSQL give the next rows numbers behind those that were given here."""
    with engine.begin() as connection:
        for name in (Study.__tablename__, Analysis.__tablename__):
            last = f"(SELECT max(id) FROM {name})"  # noqa: S608 - our own names
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {last})"))


def _rows(number: int, chance: random.Random) -> Iterator[tuple[type[Base], dict[str, Any]]]:
    at = START + timedelta(minutes=26 * number, seconds=chance.randrange(60))
    patient = chance.randrange(60_000)
    yield Study, _study(number, at, patient, chance)
    for instance in range(3):
        yield Instance, _instance(number, instance, at)
    _, state, verdict = chance.choices(_ENDS, [share for share, *_ in _ENDS])[0]
    yield Analysis, _analysis(number, at, state, verdict, chance)
    if state == AnalysisState.DONE:
        for group in ("sr", "sc"):
            yield Delivery, _delivery(number, at, group, chance)
        if chance.random() < 0.1:  # noqa: PLR2004 - a tenth is labelled
            right = chance.random() < 0.93  # noqa: PLR2004 - as readers and models agree
            value = "positive" if (verdict == "positive") == right else "negative"
            yield Label, _label(number, at, value, chance)


def _study(number: int, at: datetime, patient: int, chance: random.Random) -> dict[str, Any]:
    person = random.Random(patient)  # noqa: S311 - the same patient, the same name
    return {
        "id": number,
        "study_instance_uid": f"1.2.840.99999.{number}",
        "patient_id": f"P{patient:06}",
        "patient_name": f"{person.choice(_FAMILY)}^{person.choice(_GIVEN)}",
        "patient_birth_date": f"19{person.randrange(30, 99)}0101",
        "patient_sex": person.choice("FM"),
        "accession_number": f"A{number:08}",
        "study_date": f"{at:%Y%m%d}",
        "study_description": "CT Thorax",
        "calling_ae_title": chance.choices(_SENDERS, (40, 30, 20, 9, 1))[0],
        "called_ae_title": "LUNGNODE",
        "address": "192.0.2.7",
        "state": StudyState.RECEIVING if chance.random() < 0.0002 else StudyState.COMPLETE,  # noqa: PLR2004
        "revision": 1,
        "completeness": chance.choices(_NOTES, (70, 25, 3, 2))[0],
        "created_at": at,
        "changed_at": at + timedelta(seconds=90),
    }


def _instance(number: int, instance: int, at: datetime) -> dict[str, Any]:
    uid = f"1.2.840.99999.{number}.1.{instance}"
    return {
        "study_id": number,
        "series_instance_uid": f"1.2.840.99999.{number}.1",
        "sop_instance_uid": uid,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.4.70",
        "modality": "CT",
        "instance_number": instance + 1,
        "path": f"1.2.840.99999.{number}/{uid}.dcm",
        "size": 260_000,
        "digest": f"{number:032x}{instance:032x}",
        "revision": 1,
        "received_at": at,
    }


def _analysis(number: int, at: datetime, state: str, verdict: str, chance: random.Random) -> dict[str, Any]:
    middle = {"positive": 0.85, "undetermined": 0.3, "negative": 0.12}.get(verdict)
    probability = None if middle is None else min(0.999, max(0.001, chance.gauss(middle, 0.08)))
    model = _MODELS[0] if at.year < 2024 else _MODELS[1]  # noqa: PLR2004 - when it was promoted
    if chance.random() < 0.001:  # noqa: PLR2004 - a model that was tried for a day
        model = _MODELS[2]
    seconds = chance.uniform(2, 9)
    return {
        "id": number,
        "study_id": number,
        "revision": 1,
        "state": state,
        "due_at": at,
        "completeness": "quiet: no gaps",
        "created_at": at + timedelta(seconds=120),
        "started_at": at + timedelta(seconds=121),
        "finished_at": at + timedelta(seconds=121 + seconds),
        "attempts": 1,
        "model": model if verdict else "",
        "model_digest": model[-3:].encode().hex().ljust(64, "0") if verdict else "",
        "runtime": "openvino int8",
        "verdict": verdict,
        "probability": probability,
        "threshold": 0.5 if probability is not None else None,
        "phases": {"wait": 1.0, "read": 0.4, "decode": seconds / 2, "predict": seconds / 3},
    }


def _delivery(number: int, at: datetime, group: str, chance: random.Random) -> dict[str, Any]:
    state, reason = chance.choices(
        (("committed", ""), ("stored", ""), ("dead", "no answer"), ("refused", "0xA900")), (90, 8, 1, 1)
    )[0]
    return {
        "analysis_id": number,
        "destination": "PACS",
        "group": group,
        "state": state,
        "attempts": 1,
        "due_at": at,
        "created_at": at + timedelta(seconds=130),
        "finished_at": at + timedelta(seconds=133),
        "reason": reason,
        "instances": [],
    }


def _label(number: int, at: datetime, value: str, chance: random.Random) -> dict[str, Any]:
    return {
        "study_id": number,
        "value": value,
        "source": "reader",
        "reader": chance.choice(("ada", "bert")),
        "labelled_on": f"{at:%Y-%m-%d}",
        "created_at": at + timedelta(days=1),
    }
