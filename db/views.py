"""The views that people query, made of `views.sql`; a change there needs a revision, which may be empty."""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from sqlalchemy import Connection, text

_SQL: Final = (files("db") / "views.sql").read_text()
VIEWS: Final = tuple(re.findall(r"^CREATE VIEW (\w+)", _SQL, re.MULTILINE))
# What differs between the databases, as patterns of the file and what they become.
_SQLITE: Final = {
    r"DAY\(([\w.]+)\)": r"substr(\1, 1, 10)",
    r"SECONDS\(([\w.]+), ([\w.]+)\)": r"round((julianday(\2) - julianday(\1)) * 86400, 3)",
    r"PHASE\((\w+)\)": r"json_extract(a.phases, '$.\1')",
    r"READING\((\w+)\)": r"json_extract(a.reading, '$.\1')",
}
_POSTGRESQL: Final = {
    r"DAY\(([\w.]+)\)": r"to_char(\1 AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    r"SECONDS\(([\w.]+), ([\w.]+)\)": r"round(extract(epoch FROM \2 - \1)::numeric, 3)::double precision",
    r"PHASE\((\w+)\)": r"(a.phases ->> '\1')::double precision",
    r"READING\((\w+)\)": r"(a.reading ->> '\1')",
}


def make_views(connection: Connection, readers: Sequence[str] = ()) -> None:
    """Make the views, for these roles to read."""
    macros = _POSTGRESQL if connection.dialect.name == "postgresql" else _SQLITE
    statements = re.sub(r"^--.*$", "", _SQL, flags=re.MULTILINE)
    for pattern, replacement in macros.items():
        statements = re.sub(pattern, replacement, statements)
    for statement in filter(str.strip, statements.split(";")):
        connection.execute(text(statement))
    for reader in readers:
        grant(connection, reader)


def drop_views(connection: Connection) -> list[str]:
    """Drop the views, which stand in the way of a revision; return the roles that could read them."""
    readers = _readers(connection) if connection.dialect.name == "postgresql" else []
    for name in VIEWS:
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))
    return readers


def grant(connection: Connection, reader: str) -> None:
    """Let a PostgreSQL role read the views and nothing else."""
    role = connection.dialect.identifier_preparer.quote(reader)
    connection.execute(text(f"GRANT SELECT ON {', '.join(VIEWS)} TO {role}"))


def _readers(connection: Connection) -> list[str]:
    query = text(
        "SELECT DISTINCT grantee FROM information_schema.role_table_grants "
        "WHERE table_name = 'results' AND privilege_type = 'SELECT' AND grantee <> grantor"
    )
    return [str(row[0]) for row in connection.execute(query)]
