"""The first schema.

Revision ID: 0001
Revises:
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _checked(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "targets",
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("description", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target_id", name=op.f("pk_targets")),
    )
    op.create_index(op.f("ix_targets_created_at_target_id"), "targets", ["created_at", "target_id"])
    op.create_table(
        "workloads",
        sa.Column("workload_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("ir", sa.Text(), nullable=False),
        sa.Column("tensors", sa.JSON(), nullable=False),
        sa.Column("flops", sa.Double(), nullable=False),
        sa.Column("call", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workload_id", name=op.f("pk_workloads")),
    )
    op.create_index(
        op.f("ix_workloads_created_at_workload_id"), "workloads", ["created_at", "workload_id"]
    )
    op.create_table(
        "bests",
        sa.Column("workload_id", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("latency_secs", sa.Double(), nullable=False),
        sa.Column("latency_low_secs", sa.Double(), nullable=False),
        sa.Column("latency_high_secs", sa.Double(), nullable=False),
        sa.Column("default_latency_secs", sa.Double(), nullable=True),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.target_id"], name=op.f("fk_bests_target_id_targets")
        ),
        sa.ForeignKeyConstraint(
            ["workload_id"], ["workloads.workload_id"], name=op.f("fk_bests_workload_id_workloads")
        ),
        sa.PrimaryKeyConstraint("workload_id", "target_id", name=op.f("pk_bests")),
    )
    op.create_index(
        op.f("ix_bests_first_at_workload_id_target_id"),
        "bests",
        ["first_at", "workload_id", "target_id"],
    )
    op.create_index(op.f("ix_bests_target_id_first_at"), "bests", ["target_id", "first_at"])
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("workload_id", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("space", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("flight_key", sa.Text(), nullable=False),
        sa.Column(
            "state",
            _checked("state", "queued", "running", "done", "failed", "cancelled"),
            nullable=False,
        ),
        sa.Column("phase", _checked("phase", "search", "final"), nullable=False),
        sa.Column("trials_done", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("owner_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.target_id"], name=op.f("fk_jobs_target_id_targets")
        ),
        sa.ForeignKeyConstraint(
            ["workload_id"], ["workloads.workload_id"], name=op.f("fk_jobs_workload_id_workloads")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_created_at_job_id"), "jobs", ["created_at", "job_id"])
    op.create_index(op.f("ix_jobs_owner"), "jobs", ["owner"])
    op.create_index(
        op.f("ix_jobs_state_created_at_job_id"), "jobs", ["state", "created_at", "job_id"]
    )
    op.create_index(
        "uq_jobs_active_flight_key",
        "jobs",
        ["flight_key"],
        unique=True,
        **_where("state IN ('queued', 'running')"),
    )
    op.create_table(
        "records",
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("workload_id", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("predicted_score", sa.Double(), nullable=True),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column("run_secs", sa.JSON(), nullable=False),
        sa.Column("latency_secs", sa.Double(), nullable=True),
        sa.Column("build_secs", sa.Double(), nullable=True),
        sa.Column("failure", sa.String(16), nullable=True),
        sa.Column("failure_detail", sa.Text(), nullable=True),
        sa.Column("verification", sa.JSON(), nullable=True),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("protocol_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.target_id"], name=op.f("fk_records_target_id_targets")
        ),
        sa.ForeignKeyConstraint(
            ["workload_id"],
            ["workloads.workload_id"],
            name=op.f("fk_records_workload_id_workloads"),
        ),
        sa.PrimaryKeyConstraint("record_id", name=op.f("pk_records")),
    )
    op.create_index(op.f("ix_records_created_at_record_id"), "records", ["created_at", "record_id"])
    op.create_index(
        "ix_records_failure",
        "records",
        ["failure", "created_at", "record_id"],
        **_where("failure IS NOT NULL"),
    )
    op.create_index(
        "ix_records_job_failure", "records", ["job_id", "failure"], **_where("failure IS NOT NULL")
    )
    op.create_index(
        op.f("ix_records_job_id_created_at_record_id"),
        "records",
        ["job_id", "created_at", "record_id"],
    )
    op.create_index(
        op.f("ix_records_target_id_created_at_record_id"),
        "records",
        ["target_id", "created_at", "record_id"],
    )
    op.create_index(
        op.f("ix_records_worker_id_created_at_record_id"),
        "records",
        ["worker_id", "created_at", "record_id"],
    )
    op.create_index(
        op.f("ix_records_workload_id_created_at_record_id"),
        "records",
        ["workload_id", "created_at", "record_id"],
    )
    op.create_index(
        op.f("ix_records_workload_id_target_id_created_at_record_id"),
        "records",
        ["workload_id", "target_id", "created_at", "record_id"],
    )
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.target_id"], name=op.f("fk_workers_target_id_targets")
        ),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
    )
    op.create_index(op.f("ix_workers_last_seen_at"), "workers", ["last_seen_at"])
    op.create_index(
        op.f("ix_workers_registered_at_worker_id"), "workers", ["registered_at", "worker_id"]
    )
    op.create_index("uq_workers_name", "workers", ["name"], unique=True)
    op.create_table(
        "workload_calls",
        sa.Column("call_key", sa.Text(), nullable=False),
        sa.Column("workload_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workload_id"],
            ["workloads.workload_id"],
            name=op.f("fk_workload_calls_workload_id_workloads"),
        ),
        sa.PrimaryKeyConstraint("call_key", name=op.f("pk_workload_calls")),
    )
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("split_from", sa.Text(), nullable=True),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("precedence", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("incumbent_secs", sa.Double(), nullable=True),
        sa.Column(
            "state",
            _checked("state", "ready", "leased", "done", "split", "cancelled", "dead"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_batches_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["split_from"], ["batches.batch_id"], name=op.f("fk_batches_split_from_batches")
        ),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.target_id"], name=op.f("fk_batches_target_id_targets")
        ),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.worker_id"], name=op.f("fk_batches_worker_id_workers")
        ),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("pk_batches")),
    )
    op.create_index(op.f("ix_batches_job_id_state"), "batches", ["job_id", "state"])
    op.create_index(
        "ix_batches_lease_until", "batches", ["lease_until"], **_where("state = 'leased'")
    )
    op.create_index(
        "ix_batches_ready",
        "batches",
        ["target_id", "precedence", "created_at", "batch_id"],
        **_where("state = 'ready'"),
    )
    op.create_index(
        "uq_batches_leased_worker_id",
        "batches",
        ["worker_id"],
        unique=True,
        **_where("state = 'leased'"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("spec_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.job_id"], name=op.f("fk_idempotency_keys_job_id_jobs")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "batch_items",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("origin_batch_id", sa.Text(), nullable=False),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("predicted_score", sa.Double(), nullable=True),
        sa.Column("model_version", sa.Text(), nullable=True),
        sa.Column(
            "state", _checked("state", "open", "done", "poison", "cancelled"), nullable=False
        ),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.batch_id"], name=op.f("fk_batch_items_batch_id_batches")
        ),
        sa.ForeignKeyConstraint(
            ["origin_batch_id"],
            ["batches.batch_id"],
            name=op.f("fk_batch_items_origin_batch_id_batches"),
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_batch_items")),
    )
    op.create_index(op.f("ix_batch_items_batch_id"), "batch_items", ["batch_id"])
    op.create_index(op.f("ix_batch_items_origin_batch_id"), "batch_items", ["origin_batch_id"])


def downgrade() -> None:
    """Drop all tables, and all that is in them."""
    for table in (
        "batch_items",
        "idempotency_keys",
        "batches",
        "workload_calls",
        "workers",
        "records",
        "jobs",
        "bests",
        "workloads",
        "targets",
    ):
        op.drop_table(table)
