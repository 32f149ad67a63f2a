"""All rows of one database into another: how a node moves from SQLite to PostgreSQL."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, Engine, Table, func, insert, select

from db.models import Base
from db.session import is_current, translated, upgrade
from lungnode.errors import UnusableError

_AT_ONCE: Final = 1000
Progress = Callable[[str, int], None]  # called with a table and the number of its rows so far


def copy_rows(source: Engine, target: Engine, progress: Progress) -> dict[str, int]:
    """Copy every row, in one transaction; nothing may write to either database meanwhile.

    Returns:
        The number of rows by table.

    Raises:
        UnusableError: The source has tables of another version, or the target has rows.
        UnavailableError: One of them cannot be reached.
    """
    if not is_current(source):
        raise UnusableError("That database has tables of another version: `lungnode db upgrade` it first.")
    upgrade(target)
    with translated(source), source.connect() as reading, translated(target), target.begin() as writing:
        _check_empty(writing)
        counts = {}
        for table in Base.metadata.sorted_tables:
            counts[table.name] = _copy(table, reading, writing, progress)
        _set_sequences(writing)
    return counts


def _check_empty(writing: Connection) -> None:
    for table in Base.metadata.sorted_tables:
        if writing.execute(select(table).limit(1)).first() is not None:
            raise UnusableError(f"The database has rows already, in {table.name}: copy into an empty one.")


def _copy(table: Table, reading: Connection, writing: Connection, progress: Progress) -> int:
    # In the order of their keys: a model's predecessor comes before it.
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=_AT_ONCE)
    count = 0
    for rows in reading.execute(query).mappings().partitions():
        writing.execute(insert(table), [dict(row) for row in rows])
        count += len(rows)
        progress(table.name, count)
    return count


def _set_sequences(writing: Connection) -> None:
    """Let PostgreSQL number new rows behind those that were copied."""
    if writing.dialect.name != "postgresql":
        return
    for table in Base.metadata.sorted_tables:
        if table.autoincrement_column is not None:
            column = table.autoincrement_column
            name = func.pg_get_serial_sequence(table.name, column.name)
            most = select(func.max(column)).scalar_subquery()
            writing.execute(select(func.setval(name, most)).where(most.is_not(None)))
