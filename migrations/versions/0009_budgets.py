"""Budgets that several jobs share.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and what jobs hold of it; jobs from before have budgets of their own."""
    op.create_table(
        "budgets",
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", name=op.f("pk_budgets")),
    )
    op.add_column("jobs", sa.Column("budget_id", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("weight", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("worth_secs", sa.Double(), nullable=True))
    op.create_index("ix_jobs_budget_id", "jobs", ["budget_id"])
