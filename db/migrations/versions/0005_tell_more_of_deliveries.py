"""Tell more of deliveries: how urgent they are, when their class was fixed, what an operator can do."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="5"))
        batch_op.add_column(sa.Column("negotiated_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("advice", sa.Text(), nullable=False, server_default=""))
        batch_op.drop_index("ix_deliveries_due")
        batch_op.create_index("ix_deliveries_due", ["state", "priority", "due_at"], unique=False)
    _say_what_records_mean()


def _say_what_records_mean() -> None:
    """Until now a record's meaning was found from its status, each time it was read."""
    rows = sa.table("deliveries", sa.column("id", sa.Integer()), sa.column("instances", sa.JSON()))
    connection = op.get_bind()
    for row_id, records in connection.execute(sa.select(rows.c.id, rows.c.instances)).all():
        for record in records:
            is_stored = record["status"] == "0x0000" or record["status"].startswith("0xB")
            record |= {"meaning": "stored" if is_stored else "again", "advice": ""}
        connection.execute(sa.update(rows).where(rows.c.id == row_id).values(instances=records))


def downgrade() -> None:
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_due")
        batch_op.create_index("ix_deliveries_due", ["state", "due_at"], unique=False)
        batch_op.drop_column("advice")
        batch_op.drop_column("negotiated_at")
        batch_op.drop_column("priority")
