from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from benchmarks.generated import fill
from db import models
from db.models import Base, RegisteredModel, Study
from db.session import open_engine, transaction
from db.transfer import copy_rows
from lungnode.errors import UnusableError
from tests.command_line import CommandLine
from tests.databases import new_sqlite

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite database as a hospital leaves it."""
    engine = new_sqlite(f"sqlite:///{tmp_path}/source.sqlite3")
    fill(engine, 60)
    with transaction(engine) as session:
        for number in (1, 2):
            facts = {"name": "ours", "version": str(number), "digest": f"{number}" * 64, "path": "x"}
            session.add(RegisteredModel(predecessor_id=number - 1 or None, created_at=NOON, **facts))
            session.flush()
    yield engine
    engine.dispose()


def every_row(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def nothing(_table: str, _rows: int) -> None:
    """Show no progress."""


def test_every_row_is_copied_as_it_was(source: Engine, engine: Engine) -> None:
    counts = copy_rows(source, engine, nothing)

    assert counts["studies"] == 60
    assert every_row(engine) == every_row(source)


def test_new_rows_are_numbered_behind_the_old_ones(source: Engine, engine: Engine) -> None:
    copy_rows(source, engine, nothing)

    with transaction(engine) as session:
        study = Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON)
        test_set = models.TestSet(name="2026", digest="ab" * 32, created_at=NOON)
        session.add_all((study, test_set))
        session.flush()
        assert (study.id, test_set.id) == (61, 1)


def test_a_database_with_rows_is_refused_and_stays_as_it_was(source: Engine, engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON))
    before = every_row(engine)

    with pytest.raises(UnusableError, match="has rows already, in studies"):
        copy_rows(source, engine, nothing)

    assert every_row(engine) == before


def test_a_copy_that_fails_leaves_nothing(source: Engine, engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite takes what PostgreSQL refuses")
    with source.begin() as connection:
        facts = {"created_at": NOON, "changed_at": NOON, "patient_name": "x" * 300}
        connection.execute(insert(Study).values(study_instance_uid="1.2.3", **facts))

    with pytest.raises(Exception, match="too long"):
        copy_rows(source, engine, nothing)

    assert not any(every_row(engine).values())


def test_tables_of_another_version_are_refused(tmp_path: Path, engine: Engine) -> None:
    empty = open_engine(f"sqlite:///{tmp_path}/empty.sqlite3")

    with pytest.raises(UnusableError, match="tables of another version"):
        copy_rows(empty, engine, nothing)
    empty.dispose()


def test_the_command_says_what_it_copied(source: Engine, tmp_path: Path, command_line: CommandLine) -> None:
    done = command_line.run(tmp_path / "node", "db", "copy", str(source.url))

    assert done.returncode == 0, done.stderr
    assert " tables are copied, 60 studies." in done.stdout
