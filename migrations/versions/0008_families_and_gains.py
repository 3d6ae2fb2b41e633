"""Which workloads are shapes of one program, and what more tuning is expected to gain.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; workloads from before get their family when they are next submitted."""
    op.add_column("workloads", sa.Column("family_id", sa.Text(), nullable=True))
    op.create_index("ix_workloads_family_id", "workloads", ["family_id"])
    op.add_column("bests", sa.Column("expected_gain", sa.Double(), nullable=True))
