"""Tables of the cost model: features, versions with their files, promotions, orders."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from service.db.columns import Base, FreeText, choice
from service.db.model_values import OrderKind, OrderState


class FeatureRow(Base):
    """The features of a candidate; `content` is empty for one whose trace does not apply."""

    __tablename__ = "features"
    workload_id: Mapped[str] = mapped_column(ForeignKey("workloads.workload_id"), primary_key=True)
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.target_id"), primary_key=True)
    trace_id: Mapped[str] = mapped_column(primary_key=True)
    feature_version: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ModelVersionRow(Base):
    """A version of the base model."""

    __tablename__ = "model_versions"
    version: Mapped[str] = mapped_column(primary_key=True)
    parent: Mapped[str | None]
    feature_version: Mapped[int]
    code_version: Mapped[str]
    trained_on: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    __table_args__ = (Index(None, "created_at", "version"),)


class ModelFileRow(Base):
    """One file of a version; apart from its facts, which are listed without it."""

    __tablename__ = "model_files"
    version: Mapped[str] = mapped_column(ForeignKey("model_versions.version"), primary_key=True)
    part: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class PromotionRow(Base):
    """That a version came into use; the last one that was not rolled back is in use now."""

    __tablename__ = "model_promotions"
    promotion_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("model_versions.version"))
    promoted_at: Mapped[datetime]
    rolled_back_at: Mapped[datetime | None]


class OrderRow(Base):
    """Something asked of the learner; `owner` holds it until `owner_until`."""

    __tablename__ = "model_orders"
    order_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[OrderKind] = mapped_column(choice(OrderKind, constraint="kind"))
    state: Mapped[OrderState] = mapped_column(choice(OrderState, constraint="state"))
    request: Mapped[dict[str, Any]]
    content: Mapped[bytes | None] = mapped_column(LargeBinary)
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(FreeText)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    owner: Mapped[str | None]
    owner_until: Mapped[datetime | None]
    __table_args__ = (Index(None, "state", "created_at", "order_id"),)
