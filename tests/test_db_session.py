from sqlalchemy import Engine, inspect

from db.models import Base


def test_the_migrations_make_every_table_of_the_models(engine: Engine) -> None:
    tables = set(inspect(engine).get_table_names())

    assert tables == {*Base.metadata.tables, "alembic_version"}
