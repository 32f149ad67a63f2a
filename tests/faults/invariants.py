"""What must be true of a node and its PACS once everything has calmed down."""

from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import selectinload

from db.models import Analysis, AnalysisState, DeliveryState, Disposition, Instance, Study
from db.session import transaction
from tests.dicom_wire import read_instance
from tests.orthanc import Orthanc
from worker.parcel import REPORT_GROUPS

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


def _analyses(engine: Engine, study_instance_uid: str) -> list[Analysis]:
    chosen = select(Analysis).join(Study).where(Study.study_instance_uid == study_instance_uid)
    loaded = chosen.options(selectinload(Analysis.outputs), selectinload(Analysis.deliveries))
    with transaction(engine) as session:
        return list(session.scalars(loaded.order_by(Analysis.revision)))
