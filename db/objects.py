"""The objects of studies, as others may read them: what was received, and our results beside it.

Conflicts, withdrawn slices and deleted files are left out; of a report the class that says most is listed, of
heatmaps the single-frame ones: the others hold the same. The caller owns the transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import literal, select
from sqlalchemy.orm import Session

from db.models import Analysis, Disposition, Instance, Output, Study

_RECEIVED: Final = (Disposition.ARCHIVED, Disposition.OWN_OUTPUT)


@dataclass(frozen=True)
class Scope:
    """A study, one of its series, or one of its instances."""

    study_instance_uid: str
    series_instance_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True)
class StoredObject:
    """One SOP instance and where its file is."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str  # empty: the file says it
    path: str  # below the archive, or below the outputs
    is_output: bool
    size: int
    digest: str


def list_objects(session: Session, scope: Scope) -> list[StoredObject]:
    """Return the objects of a scope, in the order in which they came, our results last."""
    outputs = _outputs(session, scope)
    made = {each.sop_instance_uid for each in outputs}
    # What a PACS sent back of ours is there already.
    received = [each for each in _received(session, scope) if each.sop_instance_uid not in made]
    return received + outputs


def _received(session: Session, scope: Scope) -> list[StoredObject]:
    columns = (
        Instance.series_instance_uid,
        Instance.sop_instance_uid,
        Instance.sop_class_uid,
        Instance.transfer_syntax_uid,
        Instance.path,
        Instance.size,
        Instance.digest,
    )
    query = select(*columns).where(
        Instance.study_id == _study(scope),
        Instance.disposition.in_(_RECEIVED),
        Instance.deleted_at.is_(None),
        *_narrowed(Instance, scope),
    )
    return _found(session, scope, query.order_by(Instance.id), is_output=False)


def _outputs(session: Session, scope: Scope) -> list[StoredObject]:
    columns = (
        Output.series_instance_uid,
        Output.sop_instance_uid,
        Output.sop_class_uid,
        literal("").label("transfer_syntax_uid"),
        Output.path,
        Output.size,
        Output.digest,
    )
    query = (
        select(*columns)
        .join(Analysis, Analysis.id == Output.analysis_id)
        .where(
            Analysis.study_id == _study(scope),
            Analysis.withdrawn == "",
            Output.deleted_at.is_(None),
            # A variant of a group has its name behind a dash or a plus.
            Output.group.not_like("%-%"),
            Output.group.not_like("%+%"),
            *_narrowed(Output, scope),
        )
    )
    return _found(session, scope, query.order_by(Output.id), is_output=True)


def _study(scope: Scope) -> Any:
    return select(Study.id).where(Study.study_instance_uid == scope.study_instance_uid).scalar_subquery()


def _narrowed(table: type[Instance] | type[Output], scope: Scope) -> list[Any]:
    named = {
        table.series_instance_uid: scope.series_instance_uid,
        table.sop_instance_uid: scope.sop_instance_uid,
    }
    return [column == value for column, value in named.items() if value]


def _found(session: Session, scope: Scope, query: Any, *, is_output: bool) -> list[StoredObject]:
    rows: Sequence[Any] = session.execute(query).all()
    return [
        StoredObject(
            scope.study_instance_uid,
            row.series_instance_uid,
            row.sop_instance_uid,
            row.sop_class_uid,
            row.transfer_syntax_uid,
            row.path,
            is_output,
            row.size,
            row.digest,
        )
        for row in rows
    ]
