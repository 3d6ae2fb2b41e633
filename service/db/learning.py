"""What the learner works on: features of measured candidates, datasets, orders."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION
from cost_model.dataset import UNTAUGHT, Dataset
from cost_model.held_out import TaskKey, TrainingSet
from cost_model.versions import digest_of
from schedules.errors import ConflictError, NotFoundError
from schedules.records import Purpose
from service.db import convert
from service.db.engine import (
    Repository,
    database_now,
    insert_new,
    locked,
    new_id,
    reading,
    writing,
)
from service.db.model_rows import FeatureRow, ModelVersionRow, OrderRow
from service.db.model_values import (
    Cut,
    DatasetQuery,
    Featureless,
    ModelOrder,
    OrderKind,
    OrderState,
)
from service.db.models import RecordRow, WorkloadRow

FEATURES_AT_ONCE = 128
"""So many candidates of one task are featured together: a second's work."""


class Features(Repository):
    """Features of measured candidates: extracted once, and kept for every training."""

    @reading
    def featureless(
        self, session: Session, since: datetime | None = None
    ) -> tuple[Featureless | None, datetime | None]:
        """Return measured candidates of one task that have no features of this version.

        Parameters
        ----------
        since : datetime or None
            Look at records that were stored from then on; at all of them by default.

        Returns
        -------
        Featureless or None
            None where every candidate has its features.
        datetime or None
            When the oldest of them was stored: where to look on.
        """
        statement = (
            select(RecordRow)
            .outerjoin(FeatureRow, _features_of_record())
            .where(RecordRow.purpose == Purpose.TRIAL, FeatureRow.trace_id.is_(None))
            .order_by(RecordRow.created_at, RecordRow.record_id)
        )
        if since is not None:
            statement = statement.where(RecordRow.created_at >= since)
        first = session.scalars(statement.limit(1)).one_or_none()
        if first is None:
            return None, since
        rows = session.scalars(
            statement.where(
                RecordRow.workload_id == first.workload_id, RecordRow.target_id == first.target_id
            ).limit(FEATURES_AT_ONCE)
        )
        found = Featureless(
            workload_id=first.workload_id,
            target_id=first.target_id,
            traces={row.trace_id: row.trace for row in rows},
        )
        return found, first.created_at

    @writing
    def save_features(
        self,
        session: Session,
        workload_id: str,
        target_id: str,
        features: Mapping[str, bytes],
        feature_version: int = FEATURE_VERSION,
    ) -> None:
        """Store the features of candidates, by trace id; those that are known stay.

        Parameters
        ----------
        features : Mapping[str, bytes]
            A row of little-endian float32 for each candidate, or nothing where its trace does not
            apply, so that it is not asked for again.
        feature_version : int
            What the columns mean.

        Raises
        ------
        ConflictError
            The workload or the target is unknown.
        """
        rows = [
            {
                "workload_id": workload_id,
                "target_id": target_id,
                "trace_id": trace_id,
                "feature_version": feature_version,
                "content": content,
            }
            for trace_id, content in features.items()
        ]
        insert_new(session, FeatureRow, rows, FeatureRow.trace_id)

    @reading
    def count_trials(self, session: Session) -> int:
        """Count the trials whose features are stored."""
        return session.scalar(select(func.count()).select_from(FeatureRow)) or 0

    @reading
    def learnt_trials(self, session: Session) -> int:
        """Return how many trials the newest version of these features learnt from.

        It is 0 where there is none: after features have changed all is to be learnt anew.
        """
        row = session.scalars(
            select(ModelVersionRow)
            .where(ModelVersionRow.feature_version == FEATURE_VERSION)
            .order_by(ModelVersionRow.created_at.desc())
            .limit(1)
        ).one_or_none()
        return 0 if row is None else int(row.trained_on["rows"])

    @reading
    def cut_dataset(self, session: Session, query: DatasetQuery) -> Cut:
        """Cut a dataset: all trials that a query means, with their features.

        Trials that are set aside, that say nothing about their candidate, or whose features are not
        stored are left out.
        """
        query = replace(query, until=query.until or database_now(session))
        rows = session.execute(
            select(
                RecordRow.record_id,
                RecordRow.workload_id,
                RecordRow.target_id,
                RecordRow.latency_secs,
                RecordRow.censored_secs,
                FeatureRow.content,
            )
            .join(FeatureRow, _features_of_record())
            .join(WorkloadRow, WorkloadRow.workload_id == RecordRow.workload_id)
            .where(
                RecordRow.purpose == Purpose.TRIAL,
                RecordRow.set_aside_at.is_(None),
                or_(RecordRow.failure.is_(None), RecordRow.failure.not_in(UNTAUGHT)),
                *_conditions(query),
            )
            .order_by(RecordRow.created_at, RecordRow.record_id)
        ).all()
        kept = [row for row in rows if len(row.content) == 4 * len(FEATURE_NAMES)]
        workloads = {row.workload_id for row in kept}
        operators = _operators(session, workloads)
        tasks = {
            pair: TaskKey(workload_id=pair[0], target_id=pair[1], operator=operators[pair[0]])
            for pair in {(row.workload_id, row.target_id) for row in kept}
        }
        flops = dict(
            session.execute(
                select(WorkloadRow.workload_id, WorkloadRow.flops).where(
                    WorkloadRow.workload_id.in_(workloads)
                )
            ).all()
        )
        dataset = Dataset(
            features=np.frombuffer(b"".join(row.content for row in kept), dtype="<f4").reshape(
                len(kept), len(FEATURE_NAMES)
            ),
            latency_secs=np.array(
                [_seconds(row.latency_secs, row.censored_secs) for row in kept], dtype=np.float64
            ),
            groups=np.array(
                [tasks[row.workload_id, row.target_id].group for row in kept], dtype=np.int64
            ),
            flops=np.array([flops[row.workload_id] for row in kept], dtype=np.float64),
            censored=np.array([row.censored_secs is not None for row in kept], dtype=np.bool_),
        )
        return Cut(
            query=query,
            digest=digest_of([row.record_id for row in kept], FEATURE_VERSION),
            training_set=TrainingSet(dataset=dataset, tasks=tuple(tasks.values())),
        )


class Learning(Repository):
    """Orders: what is asked of the learner, taken by one process at a time."""

    @writing
    def give_order(
        self,
        session: Session,
        kind: OrderKind,
        request: Mapping[str, object],
        content: bytes | None = None,
    ) -> ModelOrder:
        """Ask something of the learner."""
        row = OrderRow(
            order_id=new_id(),
            kind=kind,
            state=OrderState.OPEN,
            request=dict(request),
            content=content,
            created_at=database_now(session),
        )
        session.add(row)
        session.flush()
        return convert.model_order(row)

    @reading
    def order(self, session: Session, order_id: str) -> ModelOrder:
        """Return an order.

        Raises
        ------
        NotFoundError
            There is none of that id.
        """
        row = session.get(OrderRow, order_id)
        if row is None:
            raise NotFoundError(f"there is no order {order_id} for the cost model")
        return convert.model_order(row)

    @writing
    def take_order(self, session: Session, owner: str, ttl_secs: float) -> ModelOrder | None:
        """Take the oldest open order that nobody else holds; `owner` may hold it already."""
        now = database_now(session)
        row = session.scalars(
            select(OrderRow)
            .where(
                OrderRow.state == OrderState.OPEN,
                or_(OrderRow.owner.is_(None), OrderRow.owner == owner, OrderRow.owner_until <= now),
            )
            .order_by(OrderRow.created_at, OrderRow.order_id)
            .limit(1)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        ).one_or_none()
        if row is None:
            return None
        row.owner = owner
        row.owner_until = now + timedelta(seconds=ttl_secs)
        session.flush()
        return convert.model_order(row)

    @writing
    def renew_order(self, session: Session, order_id: str, owner: str, ttl_secs: float) -> None:
        """Hold an order for longer; one that is not held by `owner` any more stays as it is."""
        rows = locked(session, select(OrderRow).where(OrderRow.order_id == order_id))
        if rows and rows[0].owner == owner:
            rows[0].owner_until = database_now(session) + timedelta(seconds=ttl_secs)

    @writing
    def finish_order(
        self,
        session: Session,
        order_id: str,
        owner: str,
        *,
        result: Mapping[str, object] | None = None,
        error: str | None = None,
    ) -> None:
        """End an order: done with a result, or failed with an error.

        Raises
        ------
        ConflictError
            `owner` does not hold it any more.
        """
        rows = locked(session, select(OrderRow).where(OrderRow.order_id == order_id))
        if not rows or rows[0].owner != owner or rows[0].state is not OrderState.OPEN:
            raise ConflictError(f"{owner} does not hold order {order_id}")
        (row,) = rows
        row.state = OrderState.DONE if error is None else OrderState.FAILED
        row.result = None if result is None else dict(result)
        row.error = error
        row.finished_at = database_now(session)
        row.owner = row.owner_until = None
        # It is large, and of no more use.
        row.content = None


def _features_of_record() -> ColumnElement[bool]:
    return and_(
        FeatureRow.workload_id == RecordRow.workload_id,
        FeatureRow.target_id == RecordRow.target_id,
        FeatureRow.trace_id == RecordRow.trace_id,
        FeatureRow.feature_version == FEATURE_VERSION,
    )


def _conditions(query: DatasetQuery) -> list[ColumnElement[bool]]:
    conditions = []
    if query.target_id is not None:
        conditions.append(RecordRow.target_id == query.target_id)
    if query.since is not None:
        conditions.append(RecordRow.created_at >= query.since)
    if query.until is not None:
        conditions.append(RecordRow.created_at < query.until)
    if query.operator is not None:
        conditions.append(WorkloadRow.call["op"].as_string() == query.operator)
    return conditions


def _operators(session: Session, workload_ids: set[str]) -> dict[str, str]:
    """Return the operator and dtype of workloads, or themselves for programs without one."""
    found: defaultdict[str, str] = defaultdict(str)
    calls: Any = session.execute(
        select(WorkloadRow.workload_id, WorkloadRow.call).where(
            WorkloadRow.workload_id.in_(workload_ids)
        )
    )
    for workload_id, call in calls:
        found[workload_id] = f"{call['op']} {call['dtype']}" if call else workload_id
    return found


def _seconds(latency_secs: float | None, censored_secs: float | None) -> float:
    known = latency_secs if latency_secs is not None else censored_secs
    return float("nan") if known is None else known
