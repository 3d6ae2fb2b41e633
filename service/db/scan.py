"""Which records a filter means, in statements whose work has a bound.

Every filter by itself has an index in the order of the log, but their combinations have not, and
some have none: a filter that nothing passes would look at the whole log. So one condition leads, by
its index, and the others are checked on the records that it leads to, at most `EXAMINED` of them in
one statement. A page may therefore be short, or empty, and yet not be the last.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, literal, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from service.db.columns import UtcDateTime
from service.db.models import JobRow, RecordRow
from service.db.paging import Position, after
from service.db.queries import RecordFilter

EXAMINED = 5_000
"""So many records one statement looks at where several conditions have to hold."""

KEYS = (RecordRow.created_at, RecordRow.record_id)

Condition = ColumnElement[bool]


class Scan:
    """Goes through the records that pass a filter, newest first.

    Parameters
    ----------
    filters : RecordFilter
        Which records are meant.

    Attributes
    ----------
    whole : bool
        Whether one index leads to exactly those, so that nothing is looked at in vain.
    """

    def __init__(self, filters: RecordFilter) -> None:
        self._filters = filters
        self._leading, self._led = _leading(filters)
        self.whole = not _others(filters, self._led, RecordRow)

    def part(
        self,
        position: Position | None,
        *,
        examined: int | None = None,
        until: Position | None = None,
    ) -> tuple[Select[Any], Any]:
        """Select what passes among the records after a position.

        Parameters
        ----------
        examined : int or None
            Look at no more than so many.
        until : Position or None
            Look at none after this one.

        Returns
        -------
        statement : Select
            Whole rows, newest first.
        row : type
            What stands for `RecordRow` in it.
        """
        looked_at = after(select(RecordRow).where(*self._leading), KEYS, position).limit(examined)
        if until is not None:
            moment, *ids = until
            values = [literal(moment, UtcDateTime()), *map(literal, ids)]
            # The times alone say how few records that is; no planner reckons with tuples.
            looked_at = looked_at.where(
                tuple_(*KEYS) >= tuple_(*values), RecordRow.created_at >= moment
            )
            if position is not None:
                looked_at = looked_at.where(RecordRow.created_at <= position[0])
        row: Any = aliased(RecordRow, looked_at.subquery())
        passing = select(row).where(*_others(self._filters, self._led, row))
        return passing.order_by(row.created_at.desc(), row.record_id.desc()), row

    def end(self, session: Session, position: Position | None, *, examined: int) -> Position | None:
        """Return the position of the last of the next `examined` records, None at the end."""
        keys: Any = select(*KEYS).where(*self._leading)
        last = session.execute(after(keys, KEYS, position).offset(examined - 1).limit(1))
        found = last.one_or_none()
        return None if found is None else (found.created_at, found.record_id)


def _leading(filters: RecordFilter) -> tuple[list[Condition], frozenset[str]]:
    """Choose the condition that leads, and say which fields are settled by it.

    The order is that of how few records a value has as a rule. Times are part of every index.
    """
    conditions: list[Condition] = []
    if filters.since is not None:
        conditions.append(RecordRow.created_at >= filters.since)
    if filters.until is not None:
        conditions.append(RecordRow.created_at < filters.until)
    for names in (
        ("job_id",),
        ("workload_id", "target_id"),
        ("workload_id",),
        ("worker_id",),
        ("failure",),
        ("operator",),
        ("target_id",),
    ):
        values = [getattr(filters, name) for name in names]
        if None not in values:
            for name, value in zip(names, values, strict=True):
                conditions.append(getattr(RecordRow, name) == value)
            return conditions, frozenset(names)
    return conditions, frozenset()


def _others(filters: RecordFilter, led: frozenset[str], row: Any) -> Sequence[Condition]:
    """Return the conditions that are checked on each record that was led to."""
    conditions: list[Condition] = []
    for name in (
        *("job_id", "workload_id", "worker_id", "failure", "operator", "target_id"),
        *("trace_id", "purpose", "origin", "model_version", "protocol_version"),
    ):
        value = getattr(filters, name)
        if value is not None and name not in led:
            column: InstrumentedAttribute[Any] = getattr(row, name)
            conditions.append(column == value)
    if filters.from_ir:
        conditions.append(row.operator.is_(None))
    for wanted, column in (
        (filters.failed, row.failure),
        (filters.censored, row.censored_secs),
        (filters.verified, row.verification),
        (filters.set_aside, row.set_aside_at),
    ):
        if wanted is not None:
            conditions.append(column.is_not(None) if wanted else column.is_(None))
    if filters.latency_min_secs is not None:
        conditions.append(row.latency_secs >= filters.latency_min_secs)
    if filters.latency_max_secs is not None:
        conditions.append(row.latency_secs <= filters.latency_max_secs)
    if filters.device is not None:
        conditions.append(row.environment["device"].as_string() == filters.device)
    if filters.space is not None:
        # No join, which would read all jobs: few records are looked at until a page is full.
        space = select(JobRow.space).where(JobRow.job_id == row.job_id).scalar_subquery()
        conditions.append(space == filters.space)
    return conditions
