"""Alembic's entry: runs the revisions on the connection that `db.session.upgrade` holds."""

from typing import Any, Literal

from alembic import context

from db.models import Base, UtcDateTime


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    # A revision must not change when the models do: it names SQLAlchemy's types only.
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can roll tables back as well: a process killed half-way leaves the old schema.
    transactional_ddl=True,
    render_as_batch=True,
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
