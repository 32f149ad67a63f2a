"""index each order with each filter and keep alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.create_index(
            "ix_alerts_open",
            ["name", "subject"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )

    with op.batch_alter_table("analyses", schema=None) as batch_op:
        batch_op.create_index("ix_analyses_finished_at", ["finished_at"], unique=False)

    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index("ix_deliveries_finished_at", ["finished_at"], unique=False)

    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.create_index(
            "ix_studies_calling_ae_title_last_probability",
            ["calling_ae_title", "last_probability", "id"],
            unique=False,
        )
        batch_op.create_index(
            "ix_studies_calling_ae_title_patient_key", ["calling_ae_title", "patient_key", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_completeness_kind_last_probability",
            ["completeness_kind", "last_probability", "id"],
            unique=False,
        )
        batch_op.create_index(
            "ix_studies_completeness_kind_patient_key",
            ["completeness_kind", "patient_key", "id"],
            unique=False,
        )
        batch_op.create_index(
            "ix_studies_last_model_last_probability", ["last_model", "last_probability", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_model_patient_key", ["last_model", "patient_key", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_state_last_probability", ["last_state", "last_probability", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_state_patient_key", ["last_state", "patient_key", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_verdict_last_probability",
            ["last_verdict", "last_probability", "id"],
            unique=False,
        )
        batch_op.create_index(
            "ix_studies_last_verdict_patient_key", ["last_verdict", "patient_key", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_state_last_probability", ["state", "last_probability", "id"], unique=False
        )
        batch_op.create_index("ix_studies_state_patient_key", ["state", "patient_key", "id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_index("ix_studies_state_patient_key")
        batch_op.drop_index("ix_studies_state_last_probability")
        batch_op.drop_index("ix_studies_last_verdict_patient_key")
        batch_op.drop_index("ix_studies_last_verdict_last_probability")
        batch_op.drop_index("ix_studies_last_state_patient_key")
        batch_op.drop_index("ix_studies_last_state_last_probability")
        batch_op.drop_index("ix_studies_last_model_patient_key")
        batch_op.drop_index("ix_studies_last_model_last_probability")
        batch_op.drop_index("ix_studies_completeness_kind_patient_key")
        batch_op.drop_index("ix_studies_completeness_kind_last_probability")
        batch_op.drop_index("ix_studies_calling_ae_title_patient_key")
        batch_op.drop_index("ix_studies_calling_ae_title_last_probability")

    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index("ix_deliveries_finished_at")

    with op.batch_alter_table("analyses", schema=None) as batch_op:
        batch_op.drop_index("ix_analyses_finished_at")

    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_alerts_open",
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )

    op.drop_table("alerts")
