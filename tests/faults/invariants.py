"""What must be true of a node and its PACS once everything has calmed down."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import selectinload

from db.audit_chain import verify
from db.models import Analysis, AnalysisState, AuditEvent, DeliveryState, Disposition, Instance, Study
from db.session import transaction
from tests.dicom_wire import read_instance
from tests.orthanc import Orthanc
from worker.parcel import REPORT_GROUPS

_TIDY_S: Final = 60.0
_ENDED = (DeliveryState.STORED, DeliveryState.COMMITTED)


def settled(engine: Engine, study_instance_uid: str, acknowledged: int) -> bool:
    """Tell whether everything that was acknowledged of a study is analysed and all its results delivered."""
    with transaction(engine) as session:
        chosen = select(Instance).join(Study).where(Study.study_instance_uid == study_instance_uid)
        held = [row for row in session.scalars(chosen) if row.disposition == Disposition.ARCHIVED]
        revisions = {row.revision for row in held}
    analyses = _analyses(engine, study_instance_uid)
    return (
        len(held) >= acknowledged
        and revisions <= {row.revision for row in analyses}
        and all(row.deliveries or row.state == AnalysisState.NOT_APPLICABLE for row in analyses)
        and all(each.state in _ENDED for row in analyses for each in row.deliveries)
    )


def progress(engine: Engine, study_instance_uid: str) -> object:
    """Return something that changes whenever a study comes a step further."""
    with transaction(engine) as session:
        chosen = select(func.count(Instance.id)).join(Study)
        held = session.scalar(chosen.where(Study.study_instance_uid == study_instance_uid))
    analyses = _analyses(engine, study_instance_uid)
    steps = [(row.state, row.attempts, row.lease_owner) for row in analyses]
    sent = [(each.state, each.attempts, len(each.instances)) for row in analyses for each in row.deliveries]
    return held, steps, sent


def lost(engine: Engine, archive: Path, acknowledged: Mapping[str, str]) -> Iterator[str]:
    """Name what was acknowledged and is not in the archive, once, with the same bytes."""
    with transaction(engine) as session:
        chosen = select(Instance).where(Instance.sop_instance_uid.in_(acknowledged))
        rows = [(row.sop_instance_uid, row.path, row.digest) for row in session.scalars(chosen)]
    count = Counter(uid for uid, _, _ in rows)
    for uid in acknowledged:
        if count[uid] != 1:
            yield f"instance {uid} has {count[uid]} rows"
    for uid, path, digest in rows:
        file = archive / path
        if not file.is_file():
            yield f"the file of instance {uid} is away"
        elif sha256(file.read_bytes()).hexdigest() != digest:
            yield f"the file of instance {uid} is not the one of its row"
        elif sha256(read_instance(file).data_set).hexdigest() != acknowledged[uid]:
            yield f"the data set of instance {uid} is not the one that was acknowledged"


def doubled(engine: Engine, orthanc: Orthanc, study_instance_uid: str) -> Iterator[str]:
    """Name what the PACS holds of a study's results more or less than once."""
    expected: Counter[tuple[str, str]] = Counter()
    for row in _analyses(engine, study_instance_uid):
        series: dict[str, set[str]] = {}
        for output in row.outputs:
            if output.group in {each.group for each in row.deliveries}:
                series.setdefault(output.group, set()).add(output.series_instance_uid)
                expected[output.series_instance_uid, output.sop_instance_uid] += 1
        for group, found in series.items():
            if len(found) != 1:
                yield f"revision {row.revision} has {len(found)} series of {group}"
        if row.deliveries and sum(group in REPORT_GROUPS.values() for group in series) != 1:
            yield f"revision {row.revision} has no report, or several"
    held = Counter(
        (str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)) for ds in orthanc.instances(study_instance_uid)
    )
    if held != expected:
        lacking, more = (expected - held).total(), (held - expected).total()
        yield f"the PACS lacks {lacking} results of {study_instance_uid} and has {more} too many"


def left_over(*folders: Path) -> Iterator[str]:
    """Name what lies where nothing may be left: in a spool, and among staged outputs."""
    for folder in folders:
        if not _becomes_empty(folder):
            yield f"{folder} still holds {', '.join(sorted(path.name for path in folder.iterdir()))}"


def _becomes_empty(folder: Path) -> bool:
    deadline = monotonic() + _TIDY_S  # an association that was cut is removed a moment after it was indexed
    while folder.is_dir() and any(folder.iterdir()):
        if monotonic() > deadline:
            return False
        sleep(0.2)
    return True


def untold(engine: Engine, studies: Iterable[str]) -> Iterator[str]:
    """Name what the audit trail has too little or too much of, and whether its chain is broken."""
    yield from verify(engine).problems
    for uid in studies:
        told: Counter[str] = Counter()
        received = 0
        with transaction(engine) as session:
            for event in session.scalars(select(AuditEvent).where(AuditEvent.subject == uid)):
                told[event.action] += 1
                received += event.details["instances"] if event.action == "study received" else 0
            held = session.scalar(
                select(func.count(Instance.id)).join(Study).where(Study.study_instance_uid == uid)
            )
        analyses = _analyses(engine, uid)
        deliveries = sum(len(row.deliveries) for row in analyses)
        happened = {"study analysed": len(analyses), "results sent": deliveries}
        for action, count in happened.items():
            if told[action] != count:
                yield f"the audit trail tells {told[action]} of {count} times {action!r} of {uid}"
        if received != held:
            yield f"the audit trail has {received} instances of {uid} received, {held} are there"


def _analyses(engine: Engine, study_instance_uid: str) -> list[Analysis]:
    chosen = select(Analysis).join(Study).where(Study.study_instance_uid == study_instance_uid)
    loaded = chosen.options(selectinload(Analysis.outputs), selectinload(Analysis.deliveries))
    with transaction(engine) as session:
        return list(session.scalars(loaded.order_by(Analysis.revision)))
