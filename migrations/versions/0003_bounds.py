"""Candidates that were given up, and candidates with the same code.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the bound and the pointer; older records were all timed in full and have neither."""
    op.add_column("records", sa.Column("censored_secs", sa.Double(), nullable=True))
    op.add_column("records", sa.Column("duplicate_of", sa.Text(), nullable=True))
