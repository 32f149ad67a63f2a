import sqlite3
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import IntegrityError

from db.models import Base, Instance, Study
from db.session import is_current, open_engine, revision_of, transaction, upgrade
from lungnode.errors import UnavailableError, UnusableError
from tests.spooling import NOON


def study(uid: str = "1.2.3", **columns: object) -> Study:
    return Study(**{"study_instance_uid": uid, "created_at": NOON, "changed_at": NOON} | columns)


def test_the_migrations_and_the_models_describe_the_same_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)

    assert differences == []


def test_an_upgrade_may_be_repeated_and_keeps_the_rows(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(study())

    upgrade(engine)

    with transaction(engine) as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 1


def stamp(engine: Engine, revision: str) -> None:
    """Let the tables be those of another version."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})


def test_a_program_goes_on_with_the_tables_of_a_newer_version_that_only_added_to_them(engine: Engine) -> None:
    stamp(engine, "0999")

    upgrade(engine)

    assert is_current(engine)
    with transaction(engine) as session:
        assert revision_of(session) == "0999"


def test_a_program_refuses_the_tables_of_a_newer_version_that_took_something_away(engine: Engine) -> None:
    stamp(engine, "1003")

    with pytest.raises(UnusableError, match="at revision 1003, of a newer version"):
        upgrade(engine)
    assert not is_current(engine)


def test_programs_that_open_a_new_sqlite_file_together_all_get_it(tmp_path: Path) -> None:
    def start(url: str, barrier: threading.Barrier) -> str:
        engine = open_engine(url)
        barrier.wait()
        with engine.connect() as connection:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        engine.dispose()
        return str(mode)

    modes = set()
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            barrier = threading.Barrier(8)
            modes |= set(pool.map(start, [f"sqlite:///{tmp_path / str(number)}"] * 8, [barrier] * 8))

    assert modes == {"wal"}


def test_programs_that_start_together_upgrade_one_after_the_other(database_url: str) -> None:
    barrier = threading.Barrier(4)

    def start(_: int) -> None:
        engine = open_engine(database_url)
        barrier.wait()
        upgrade(engine)
        engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(start, range(4)))

    assert results == [None] * 4


def test_an_upgrade_makes_the_folder_of_the_database(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/deep/down/lungnode.sqlite3")

    upgrade(engine)

    engine.dispose()
    assert (tmp_path / "deep/down/lungnode.sqlite3").exists()


def test_a_plain_postgresql_url_uses_psycopg() -> None:
    engine = open_engine("postgresql://lungnode@localhost/lungnode")

    assert engine.dialect.driver == "psycopg"


def test_times_come_back_aware_and_in_utc(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(study(changed_at=datetime(2026, 3, 5, 13, tzinfo=timezone(timedelta(hours=1)))))

    with transaction(engine) as session:
        found = session.scalars(select(Study)).one()
        assert found.changed_at == datetime(2026, 3, 5, 12, tzinfo=UTC)
        assert found.changed_at.tzinfo is not None


def test_a_time_without_a_zone_is_refused(engine: Engine) -> None:
    with pytest.raises(Exception, match="time without a zone"), transaction(engine) as session:
        session.add(study(changed_at=NOON.replace(tzinfo=None)))


def test_an_absent_position_is_null_in_the_database(engine: Engine) -> None:
    with transaction(engine) as session:
        row = Instance(
            study=study(),
            series_instance_uid="1",
            sop_instance_uid="2",
            sop_class_uid="3",
            transfer_syntax_uid="4",
            path="5",
            size=3_000_000_000,
            digest="6",
            received_at=NOON,
            image_position=None,
        )
        session.add(row)

    with transaction(engine) as session:
        query = text("SELECT count(*) FROM instances WHERE image_position IS NULL")
        assert session.scalar(query) == 1


def test_a_failed_block_leaves_nothing_behind(engine: Engine) -> None:
    def fail() -> None:
        with transaction(engine) as session:
            session.add(study())
            session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    with transaction(engine) as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 0


def test_a_locked_database_is_unavailable_for_now(tmp_path: Path) -> None:
    file = tmp_path / "lungnode.sqlite3"
    engine = open_engine(f"sqlite:///{file}", lock_wait_s=0.05)
    upgrade(engine)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(UnavailableError, match="database is locked"), transaction(engine) as session:
        session.add(study())

    other.execute("ROLLBACK")
    other.close()
    with transaction(engine) as session:
        session.add(study())
    engine.dispose()


def test_an_unreachable_server_is_unavailable_and_its_password_is_not_told(tmp_path: Path) -> None:
    engine = open_engine(f"postgresql://lungnode:geheim@/lungnode?host={tmp_path}")

    with pytest.raises(UnavailableError, match="unavailable") as caught:
        upgrade(engine)

    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("column", ["study_instance_uid", "created_at"])
def test_what_the_database_refuses_is_not_quoted_in_its_error(engine: Engine, column: str) -> None:
    def insert_what_is_refused() -> None:
        told = {"patient_name": "Doe^Jane", "patient_id": "4711"}
        with transaction(engine) as session:
            session.add(study(**told))
            session.flush()
            if column == "created_at":  # PostgreSQL would tell the whole row
                session.execute(text("UPDATE studies SET created_at = NULL"))
            else:
                session.add(study(**told))

    with pytest.raises(IntegrityError) as caught:
        insert_what_is_refused()

    said = "".join(traceback.format_exception(caught.value))
    assert "Doe" not in said
    assert "4711" not in said
    assert column in said
