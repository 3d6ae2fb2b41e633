"""The operator of records and jobs, and counters of records.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

from service.db.recount import recount

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _choice(*values: str) -> sa.Enum:
    return sa.Enum(*values, native_enum=False, length=16)


def upgrade() -> None:
    """Add them, and count what is there."""
    for table in ("jobs", "records"):
        op.add_column(table, sa.Column("operator", sa.Text(), nullable=True))
        _name_operators(table)
    op.create_index(
        op.f("ix_records_operator_created_at_record_id"),
        "records",
        ["operator", "created_at", "record_id"],
    )
    op.create_table(
        "series",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", _choice("target", "operator", "worker"), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.target_id"], name=op.f("fk_series_target_id_targets")
        ),
        sa.PrimaryKeyConstraint("series_id", name=op.f("pk_series")),
    )
    op.create_table(
        "record_counts",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("span", _choice("day", "month"), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.series_id"], name=op.f("fk_record_counts_series_id_series")
        ),
        sa.PrimaryKeyConstraint(
            "series_id", "span", "day", "outcome", "bucket", name=op.f("pk_record_counts")
        ),
    )
    recount(op.get_bind())


def _name_operators(table: str) -> None:
    name = {
        "sqlite": "json_extract(workloads.call, '$.op')",
        "postgresql": "workloads.call ->> 'op'",
    }[op.get_bind().dialect.name]
    op.execute(
        f"UPDATE {table} SET operator = (SELECT {name} FROM workloads "
        f"WHERE workloads.workload_id = {table}.workload_id)"
    )
