"""Fair shares between submitters, and the health of workers.

Revision ID: 0002
Revises: 0001
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KINDS = sa.Enum(
    *("reference", "expiry", "crash"),
    name="kind",
    native_enum=False,
    create_constraint=True,
    length=16,
)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Add what fairness and health need; rows that are there get the values of a quiet past."""
    op.add_column("jobs", sa.Column("submitter", sa.Text(), nullable=False, server_default=""))
    op.add_column(
        "jobs", sa.Column("measuring", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.execute(
        "UPDATE jobs SET measuring = (0 = 0) WHERE job_id IN "
        "(SELECT job_id FROM batches WHERE state IN ('ready', 'leased'))"
    )
    op.drop_column("jobs", "waiting_for")
    op.create_table(
        "shares",
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("submitter", sa.Text(), nullable=False),
        sa.Column("served", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.target_id"], name=op.f("fk_shares_target_id_targets")
        ),
        sa.PrimaryKeyConstraint("target_id", "submitter", name=op.f("pk_shares")),
    )
    op.add_column(
        "batches", sa.Column("turn", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    )
    op.drop_index("ix_batches_ready", "batches")
    op.create_index(
        "ix_batches_ready",
        "batches",
        ["target_id", "precedence", "turn", "created_at", "batch_id"],
        **_where("state = 'ready'"),
    )
    op.add_column("batch_items", sa.Column("lost_with", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("quarantined", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("quarantined_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "worker_checks",
        sa.Column("check_id", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("kind", _KINDS, nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("boot_id", sa.Text(), nullable=True),
        sa.Column("environment_id", sa.Text(), nullable=True),
        sa.Column("latency_secs", sa.Double(), nullable=True),
        sa.Column("spread", sa.Double(), nullable=True),
        sa.Column("baseline_secs", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.worker_id"], name=op.f("fk_worker_checks_worker_id_workers")
        ),
        sa.PrimaryKeyConstraint("check_id", name=op.f("pk_worker_checks")),
    )
    op.create_index(
        op.f("ix_worker_checks_worker_id_checked_at_check_id"),
        "worker_checks",
        ["worker_id", "checked_at", "check_id"],
    )
    op.create_index(
        "ix_worker_checks_mishaps",
        "worker_checks",
        ["checked_at", "worker_id"],
        **_where("kind != 'reference'"),
    )
    op.add_column("records", sa.Column("set_aside_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_records_set_aside",
        "records",
        ["worker_id"],
        **_where("set_aside_at IS NOT NULL"),
    )
