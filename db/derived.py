"""What the database derives from its tables by itself: triggers and views.

They are made anew after each upgrade: a revision that copies a table to change it loses its triggers, and
views stand in its way. So a change of one needs a revision, too, which may be empty.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, text

from db.views import drop_views, make_views

_COPIED: Final = ("state", "verdict", "probability", "model")
_SET: Final = ", ".join(
    ["last_analysis_id = NEW.id", *(f"last_{column} = NEW.{column}" for column in _COPIED)]
)
# Whoever changes an analysis, its study says so: lists are searched and sorted by it.
_FOLLOW: Final = (
    f"UPDATE studies SET {_SET} "  # noqa: S608 - names of ours
    "WHERE id = NEW.study_id AND coalesce(last_analysis_id, 0) <= NEW.id;"
)
_CHANGES: Final = ("INSERT", f"UPDATE OF {', '.join(_COPIED)}")


def drop_derived(connection: Connection) -> list[str]:
    """Take away what stands in the way of a revision; return the roles that could read the views."""
    for name in _names():
        where = " ON analyses" if connection.dialect.name == "postgresql" else ""
        if where and not connection.dialect.has_table(connection, "analyses"):
            continue
        connection.execute(text(f"DROP TRIGGER IF EXISTS {name}{where}"))
    return drop_views(connection)


def make_derived(connection: Connection, readers: Sequence[str]) -> None:
    """Make it, for these roles to read; the tables are at the newest revision."""
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:
        connection.execute(text(_function()))
    for name, change in zip(_names(), _CHANGES, strict=True):
        does = "EXECUTE FUNCTION follow_last_analysis()" if is_postgresql else f"BEGIN {_FOLLOW} END"
        connection.execute(text(f"CREATE TRIGGER {name} AFTER {change} ON analyses FOR EACH ROW {does}"))
    make_views(connection, readers)


def _names() -> list[str]:
    return [f"follow_analysis_{change.split()[0].lower()}" for change in _CHANGES]


def _function() -> str:
    return (
        "CREATE OR REPLACE FUNCTION follow_last_analysis() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {_FOLLOW} RETURN NULL; END $$"
    )
