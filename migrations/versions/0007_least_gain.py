"""When a job's search ends early: at what it is expected to gain.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; jobs from before have no such end."""
    op.add_column("jobs", sa.Column("least_gain", sa.Double(), nullable=True))
