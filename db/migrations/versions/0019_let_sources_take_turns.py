"""Let sources take turns."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows of before, and those that a program of before still makes, have the first turn: they are older.
    op.add_column("analyses", sa.Column("source", sa.String(16), nullable=False, server_default=""))
    op.add_column("analyses", sa.Column("turn", sa.Integer(), nullable=False, server_default="0"))
    op.drop_index("ix_analyses_due", table_name="analyses")
    op.create_index("ix_analyses_due", "analyses", ["state", "priority", "turn", "due_at", "id"])
    op.create_index("ix_analyses_turns_of_source", "analyses", ["state", "priority", "source", "turn"])


def downgrade() -> None:
    op.drop_index("ix_analyses_turns_of_source", table_name="analyses")
    op.drop_index("ix_analyses_due", table_name="analyses")
    op.create_index("ix_analyses_due", "analyses", ["state", "priority", "due_at"])
    with op.batch_alter_table("analyses") as batch_op:
        batch_op.drop_column("turn")
        batch_op.drop_column("source")
