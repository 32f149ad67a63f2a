"""The next release of Lungnode, as far as hosts of a cluster can tell: its tables have more than ours."""

import shutil
from pathlib import Path
from typing import Final

from tests.cluster.node import REPOSITORY

PACKAGES: Final = ("daemon", "db", "lungnode", "trainer", "worker")
VERSION: Final = "99.0.0"
REVISION: Final = "0999"
_REVISION: Final = '''"""Add to the tables what the version before knows nothing of."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("studies", "analyses", "deliveries"):
        op.add_column(table, sa.Column("added", sa.Integer(), nullable=False, server_default="7"))
    op.create_table("additions", sa.Column("id", sa.Integer(), primary_key=True))
'''


def make_next_release(folder: Path) -> Path:
    """Copy what is here into a new folder as a version of its own; return the folder."""
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "lungnode/__init__.py").open("a") as file:
        file.write(f'\n__version__ = "{VERSION}"\n')
    versions = folder / "db/migrations/versions"
    before = max(path.name[:4] for path in versions.glob("[0-9]*.py"))
    (versions / f"{REVISION}_add_something.py").write_text(_REVISION.format(revision=REVISION, before=before))
    return folder
