"""An index of final measurements, which a workload's page shows among thousands of trials.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_FINAL = sa.text("purpose = 'final'")


def upgrade() -> None:
    """Make the index; it reads all records once."""
    op.create_index(
        "ix_records_finals",
        "records",
        ["workload_id", "target_id", "created_at", "record_id"],
        sqlite_where=_FINAL,
        postgresql_where=_FINAL,
    )
