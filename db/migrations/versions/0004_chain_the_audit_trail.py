"""Chain the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_batches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("head", sa.String(length=64), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("woken_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("head"),
        sa.UniqueConstraint("previous"),
    )
    op.create_index("ix_audit_batches_due", "audit_batches", ["state", "due_at"])
    with op.batch_alter_table("audit_events") as batch_op:
        batch_op.add_column(sa.Column("outcome", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("draft", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("message", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("batch_id", sa.Integer(), nullable=True))
        batch_op.create_foreign_key("fk_audit_events_batch_id", "audit_batches", ["batch_id"], ["id"])
        batch_op.create_index("ix_audit_events_batch_id", ["batch_id"])
        batch_op.create_index("ix_audit_events_subject", ["subject"])


def downgrade() -> None:
    with op.batch_alter_table("audit_events") as batch_op:
        batch_op.drop_index("ix_audit_events_subject")
        batch_op.drop_index("ix_audit_events_batch_id")
        batch_op.drop_constraint("fk_audit_events_batch_id", type_="foreignkey")
        for name in ("batch_id", "message", "draft", "outcome"):
            batch_op.drop_column(name)
    op.drop_index("ix_audit_batches_due", "audit_batches")
    op.drop_table("audit_batches")
