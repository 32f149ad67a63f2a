"""index what studies are searched by."""

import sqlalchemy as sa
from alembic import op

from db.text_keys import search_key

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


_BYTEWISE = {"patient_id": 255, "patient_key": 255, "study_date": 16}


def upgrade() -> None:
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instances_study_id"))
        batch_op.create_index("ix_instances_study_id", ["study_id", "series_instance_uid"], unique=False)

    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("patient_key", sa.String(length=255), server_default="", nullable=False)
        )
        batch_op.add_column(
            sa.Column("completeness_kind", sa.String(length=32), server_default="", nullable=False)
        )
        batch_op.add_column(sa.Column("last_analysis_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("last_state", sa.String(length=16), server_default="", nullable=False))
        batch_op.add_column(
            sa.Column("last_verdict", sa.String(length=16), server_default="", nullable=False)
        )
        batch_op.add_column(sa.Column("last_probability", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("last_model", sa.String(length=255), server_default="", nullable=False))
        batch_op.drop_index(batch_op.f("ix_studies_changed_at"))
        batch_op.drop_index(batch_op.f("ix_studies_state"))
        batch_op.drop_index(batch_op.f("ix_studies_study_date"))
        batch_op.create_index("ix_studies_study_date", ["study_date", "id"], unique=False)
        batch_op.create_index(
            "ix_studies_calling_ae_title_changed_at", ["calling_ae_title", "changed_at", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_calling_ae_title_study_date", ["calling_ae_title", "study_date", "id"], unique=False
        )
        batch_op.create_index("ix_studies_changed", ["changed_at", "id"], unique=False)
        batch_op.create_index(
            "ix_studies_completeness_kind_changed_at", ["completeness_kind", "changed_at", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_completeness_kind_study_date", ["completeness_kind", "study_date", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_model_changed_at", ["last_model", "changed_at", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_model_study_date", ["last_model", "study_date", "id"], unique=False
        )
        batch_op.create_index("ix_studies_last_probability", ["last_probability", "id"], unique=False)
        batch_op.create_index(
            "ix_studies_last_state_changed_at", ["last_state", "changed_at", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_state_study_date", ["last_state", "study_date", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_verdict_changed_at", ["last_verdict", "changed_at", "id"], unique=False
        )
        batch_op.create_index(
            "ix_studies_last_verdict_study_date", ["last_verdict", "study_date", "id"], unique=False
        )
        batch_op.create_index("ix_studies_patient_key", ["patient_key", "id"], unique=False)
        batch_op.create_index("ix_studies_state_changed_at", ["state", "changed_at", "id"], unique=False)
        batch_op.create_index("ix_studies_state_study_date", ["state", "study_date", "id"], unique=False)
    if op.get_bind().dialect.name == "postgresql":  # SQLite compares byte by byte as it is
        for column, length in _BYTEWISE.items():
            op.alter_column("studies", column, type_=sa.String(length, collation="C"))
    _fill(op.get_bind())


def downgrade() -> None:
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_index("ix_studies_state_study_date")
        batch_op.drop_index("ix_studies_state_changed_at")
        batch_op.drop_index("ix_studies_patient_key")
        batch_op.drop_index("ix_studies_last_verdict_study_date")
        batch_op.drop_index("ix_studies_last_verdict_changed_at")
        batch_op.drop_index("ix_studies_last_state_study_date")
        batch_op.drop_index("ix_studies_last_state_changed_at")
        batch_op.drop_index("ix_studies_last_probability")
        batch_op.drop_index("ix_studies_last_model_study_date")
        batch_op.drop_index("ix_studies_last_model_changed_at")
        batch_op.drop_index("ix_studies_completeness_kind_study_date")
        batch_op.drop_index("ix_studies_completeness_kind_changed_at")
        batch_op.drop_index("ix_studies_changed")
        batch_op.drop_index("ix_studies_calling_ae_title_study_date")
        batch_op.drop_index("ix_studies_calling_ae_title_changed_at")
        batch_op.drop_index("ix_studies_study_date")
        batch_op.create_index(batch_op.f("ix_studies_study_date"), ["study_date"], unique=False)
        batch_op.create_index(batch_op.f("ix_studies_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_studies_changed_at"), ["changed_at"], unique=False)
        batch_op.drop_column("last_model")
        batch_op.drop_column("last_probability")
        batch_op.drop_column("last_verdict")
        batch_op.drop_column("last_state")
        batch_op.drop_column("last_analysis_id")
        batch_op.drop_column("completeness_kind")
        batch_op.drop_column("patient_key")

    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_index("ix_instances_study_id")
        batch_op.create_index(batch_op.f("ix_instances_study_id"), ["study_id"], unique=False)


def _fill(connection: sa.Connection) -> None:
    """Say of the studies that are there what triggers and models say of new ones."""
    connection.execute(
        sa.text(
            "UPDATE studies SET last_analysis_id = "
            "(SELECT max(id) FROM analyses WHERE analyses.study_id = studies.id)"
        )
    )
    connection.execute(
        sa.text(
            "UPDATE studies SET last_state = a.state, last_verdict = a.verdict, "
            "last_probability = a.probability, last_model = a.model "
            "FROM analyses a WHERE a.id = studies.last_analysis_id"
        )
    )
    rows = connection.execute(sa.text("SELECT id, patient_name, completeness FROM studies")).all()
    if rows:
        keys = [
            {"id": id_, "key": search_key(name), "kind": completeness.partition(":")[0][:32]}
            for id_, name, completeness in rows
        ]
        connection.execute(
            sa.text("UPDATE studies SET patient_key = :key, completeness_kind = :kind WHERE id = :id"), keys
        )
