"""Studies that wait, by the thousand: rows as the clerk makes them, inserted at once."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Engine, func, insert, select

from db.analyses import queue_analysis
from db.models import Analysis, Base, Study
from db.session import transaction
from worker.hold import utc_now

LATER: Final = 9  # priority of a backlog
_CHUNK: Final = 5_000


SOURCES: Final = ("CT1", "CT2", "CT3", "CT4")


def add_backlog(engine: Engine, count: int, sources: Sequence[str] = SOURCES) -> None:
    """Let so many studies wait, sent by the sources in turn."""
    with transaction(engine) as session:
        first = (session.scalar(select(func.max(Study.id))) or 0) + 1
    for start in range(0, count, _CHUNK):
        rows: dict[type[Base], list[dict[str, Any]]] = {Study: [], Analysis: []}
        for number in range(start, min(start + _CHUNK, count)):
            source, turn = sources[number % len(sources)], number // len(sources)
            rows[Study].append(_study(first + number, source))
            rows[Analysis].append(_analysis(first + number, source, turn))
        with transaction(engine) as session:
            for table, values in rows.items():
                session.execute(insert(table), values)


def _study(number: int, source: str) -> dict[str, Any]:
    return {
        "id": number,
        "study_instance_uid": f"1.2.840.99999.{number}",
        "calling_ae_title": source,
        "revision": 1,
        "created_at": utc_now(),
        "changed_at": utc_now(),
    }


def _analysis(number: int, source: str, turn: int) -> dict[str, Any]:
    at = utc_now()
    fixed = {
        "revision": 1,
        "priority": LATER,
        "created_at": at,
        "due_at": at,
        "completeness": "quiet: no gaps",
    }
    return {"study_id": number, "source": source, "turn": turn, **fixed}


def add_one(engine: Engine, source: str, priority: int) -> int:
    """Queue one study more, as the clerk does; return its analysis."""
    with transaction(engine) as session:
        number = (session.scalar(select(func.max(Study.id))) or 0) + 1
        study = Study(**_study(number, source))
        session.add(study)
        session.flush()
        return queue_analysis(session, study, priority, utc_now()).id
