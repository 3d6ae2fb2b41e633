"""The cost model as an asset: features, versions with their files, promotions, orders.

Revision ID: 0005
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _checked(name: str, *values: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=16)


def upgrade() -> None:
    """Make the tables; nothing that is there changes."""
    op.create_table(
        "features",
        sa.Column("workload_id", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("feature_version", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workload_id"],
            ["workloads.workload_id"],
            name=op.f("fk_features_workload_id_workloads"),
        ),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.target_id"], name=op.f("fk_features_target_id_targets")
        ),
        sa.PrimaryKeyConstraint(
            "workload_id", "target_id", "trace_id", "feature_version", name=op.f("pk_features")
        ),
    )
    op.create_table(
        "model_versions",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("feature_version", sa.Integer(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("trained_on", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_model_versions")),
    )
    op.create_index(
        op.f("ix_model_versions_created_at_version"), "model_versions", ["created_at", "version"]
    )
    op.create_table(
        "model_files",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["model_versions.version"],
            name=op.f("fk_model_files_version_model_versions"),
        ),
        sa.PrimaryKeyConstraint("version", "part", name=op.f("pk_model_files")),
    )
    op.create_table(
        "model_promotions",
        sa.Column("promotion_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("promoted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rolled_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["version"],
            ["model_versions.version"],
            name=op.f("fk_model_promotions_version_model_versions"),
        ),
        sa.PrimaryKeyConstraint("promotion_id", name=op.f("pk_model_promotions")),
    )
    op.create_table(
        "model_orders",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column(
            "kind", _checked("kind", "train", "evaluate", "promote", "import"), nullable=False
        ),
        sa.Column("state", _checked("state", "open", "done", "failed"), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("owner_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_model_orders")),
    )
    op.create_index(
        op.f("ix_model_orders_state_created_at_order_id"),
        "model_orders",
        ["state", "created_at", "order_id"],
    )
