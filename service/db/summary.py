"""Summaries of the tuning log: counts and quantiles by group."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, null, or_, select
from sqlalchemy.orm import Session

from schedules.records import FailureKind
from service.db.count_rows import CountRow, SeriesRow
from service.db.counts import CENSORED, MEASURED, cell, utc_day
from service.db.engine import Repository, reading
from service.db.histogram import quantile_secs
from service.db.paging import check_limit
from service.db.queries import RecordFilter
from service.db.scan import Scan
from service.db.summary_values import GroupBy, GroupSummary, SeriesKind, Span, Summary

EXAMINED = 3_000
"""So many records a summary looks at where no counters are kept for what is asked."""
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}

_COUNTED = ("operator", "from_ir", "target_id", "worker_id", "failure", "failed", "since", "until")
_ALL = RecordFilter()

# (key of the group, outcome, bucket) -> records
_Cells = Mapping[tuple[str | None, str, int], int]


class Summaries(Repository):
    """Counts and quantiles of records by group."""

    @reading
    def summarise(
        self, session: Session, group_by: GroupBy, filters: RecordFilter, *, limit: int
    ) -> Summary:
        """Count records by group, the largest groups first, or the newest days.

        Counters answer where the filters are among operator, target, worker, failure and whole
        days of UTC, and operator and worker do not come together. Otherwise the newest records
        that pass are looked at, out of `EXAMINED`, and the summary says whether those are all.

        Records that are set aside are in the log and are counted.

        Raises
        ------
        InputError
            The limit or a naive time is no good.
        """
        check_limit(limit)
        kind = _series_kind(group_by, filters)
        if kind is not None:
            cells, complete = _counted(session, kind, group_by, filters), True
        else:
            cells, complete = _looked_at(session, group_by, filters)
        groups = _groups(cells)
        if group_by is GroupBy.DAY:
            groups.sort(key=lambda group: group.key or "", reverse=True)
        else:
            groups.sort(key=lambda group: (-group.records, group.key or ""))
        return Summary(
            groups=tuple(groups[:limit]),
            left_out=len(groups[limit:]),
            counted=kind is not None,
            complete=complete,
        )


def _series_kind(group_by: GroupBy, filters: RecordFilter) -> SeriesKind | None:
    """Return the series that have the answer, None where none have."""
    for name in RecordFilter.__dataclass_fields__:
        if name not in _COUNTED and getattr(filters, name) != getattr(_ALL, name):
            return None
    for moment in (filters.since, filters.until):
        if moment is not None and moment.astimezone(UTC).time() != time():
            return None
    by_worker = group_by is GroupBy.WORKER or filters.worker_id is not None
    by_operator = group_by is GroupBy.OPERATOR or filters.operator is not None or filters.from_ir
    if by_worker and by_operator:
        return None
    if by_worker:
        return SeriesKind.WORKER
    return SeriesKind.OPERATOR if by_operator else SeriesKind.TARGET


def _counted(
    session: Session, kind: SeriesKind, group_by: GroupBy, filters: RecordFilter
) -> _Cells:
    column: Any = {
        GroupBy.OPERATOR: SeriesRow.name,
        GroupBy.WORKER: SeriesRow.name,
        GroupBy.TARGET: SeriesRow.target_id,
        GroupBy.FAILURE: null(),
        GroupBy.DAY: null(),
    }[group_by]
    # The series first: counters are found by their ids, which no planner guesses from a join, and
    # are added up by ids, which is cheaper than by names.
    wanted = [SeriesRow.kind == kind]
    for described, value in (
        (SeriesRow.name, filters.operator),
        (SeriesRow.name, filters.worker_id),
        (SeriesRow.target_id, filters.target_id),
    ):
        if value is not None:
            wanted.append(described == value)
    if filters.from_ir:
        wanted.append(SeriesRow.name.is_(None))
    series = session.execute(select(SeriesRow.series_id, column).where(*wanted))
    names: dict[int, str | None] = {row[0]: row[1] for row in series}
    parts = _parts(group_by, filters)
    conditions = [CountRow.series_id.in_(list(names)), or_(*(condition for condition, _ in parts))]
    if filters.failure is not None:
        conditions.append(CountRow.outcome == filters.failure)
    if filters.failed is not None:
        succeeded = CountRow.outcome.in_((MEASURED, CENSORED))
        conditions.append(~succeeded if filters.failed else succeeded)
    taken_away = [condition for condition, sign in parts if sign < 0]
    counted: Any = CountRow.records
    if taken_away:
        counted = case((or_(*taken_away), -CountRow.records), else_=CountRow.records)
    key: Any = {GroupBy.FAILURE: CountRow.outcome, GroupBy.DAY: CountRow.day}.get(
        group_by, CountRow.series_id
    )
    rows = session.execute(
        select(key, CountRow.outcome, CountRow.bucket, func.sum(counted))
        .where(*conditions)
        .group_by(key, CountRow.outcome, CountRow.bucket)
    )
    cells: Counter[tuple[str | None, str, int]] = Counter()
    for value, outcome, bucket, count in rows:
        name = names[value] if key is CountRow.series_id else _key(group_by, value)
        cells[name, outcome, bucket] += int(count)
    return +cells


# A condition on counters, and whether they are added to what is asked for or taken away from it.
_Part = tuple[ColumnElement[bool], int]


def _parts(group_by: GroupBy, filters: RecordFilter) -> list[_Part]:
    """Divide the time that is meant into months and, at its ends, as few days as possible.

    Of a month that is meant in part, either its days that are meant are added, or it is added as a
    whole and the other days are taken away.
    """
    since = None if filters.since is None else utc_day(filters.since)
    until = None if filters.until is None else utc_day(filters.until)
    if group_by is GroupBy.DAY:
        return [(_span(Span.DAY, since, until), 1)]
    ways = [
        [(Span.MONTH, first, last, 1), *before, *after]
        for first, *before in _edges(since)
        for last, *after in _edges(until, ends=True)
        if first is None or last is None or first <= last
    ]
    if since is not None and until is not None:
        ways.append([(Span.DAY, since, until, 1)])
    best = min(ways, key=lambda way: sum(map(_days, way)))
    return [(_span(span, first, last), sign) for span, first, last, sign in best]


_Range = tuple[Span, date | None, date | None, int]


def _edges(day: date | None, *, ends: bool = False) -> list[tuple[Any, ...]]:
    """Return where whole months can begin or end, each with the days between there and `day`."""
    if day is None or day.day == 1:
        return [(day,)]
    month = day.replace(day=1)
    following = (month + timedelta(days=31)).replace(day=1)
    sign = -1 if ends else 1
    return [
        (month, (Span.DAY, month, day, -sign)),
        (following, (Span.DAY, day, following, sign)),
    ]


def _days(part: _Range) -> int:
    span, first, last, _ = part
    return (last - first).days if span is Span.DAY and first and last else 0


def _span(span: Span, since: date | None, until: date | None) -> ColumnElement[bool]:
    conditions = [CountRow.span == span]
    if since is not None:
        conditions.append(CountRow.day >= since)
    if until is not None:
        conditions.append(CountRow.day < until)
    return and_(*conditions)


def _looked_at(session: Session, group_by: GroupBy, filters: RecordFilter) -> tuple[_Cells, bool]:
    scan = Scan(filters)
    statement, row = scan.part(None, examined=EXAMINED)
    key = {
        GroupBy.OPERATOR: row.operator,
        GroupBy.WORKER: row.worker_id,
        GroupBy.TARGET: row.target_id,
        GroupBy.FAILURE: row.failure,
        GroupBy.DAY: row.created_at,
    }[group_by]
    # The order is that of what is looked at; what passes needs none.
    rows = session.execute(
        statement.order_by(None).with_only_columns(key, row.failure, row.latency_secs)
    )
    cells: Counter[tuple[str | None, str, int]] = Counter()
    for name, failure, latency_secs in rows:
        outcome, bucket = cell(failure, latency_secs)
        cells[_key(group_by, name), outcome, bucket] += 1
    return cells, scan.end(session, None, examined=EXAMINED) is None


def _key(group_by: GroupBy, name: Any) -> str | None:
    if isinstance(name, datetime):
        name = utc_day(name)
    if isinstance(name, date):
        return name.isoformat()
    if group_by is GroupBy.FAILURE and name in (MEASURED, CENSORED):
        return None
    return None if name is None else str(name)


def _groups(cells: _Cells) -> list[GroupSummary]:
    latencies: defaultdict[str | None, dict[int, int]] = defaultdict(dict)
    outcomes: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    for (key, outcome, bucket), count in cells.items():
        outcomes[key][outcome] += count
        if outcome == MEASURED:
            latencies[key][bucket] = count
    return [
        GroupSummary(
            key=key,
            records=counted.total(),
            measured=counted[MEASURED],
            censored=counted[CENSORED],
            failures=_failures(counted.items()),
            latency_secs=_quantiles(latencies[key]),
        )
        for key, counted in outcomes.items()
    ]


def _failures(outcomes: Iterable[tuple[str, int]]) -> dict[FailureKind, int]:
    return {
        FailureKind(outcome): count
        for outcome, count in outcomes
        if outcome not in (MEASURED, CENSORED)
    }


def _quantiles(counts: Mapping[int, int]) -> dict[str, float] | None:
    found = {name: quantile_secs(counts, q) for name, q in QUANTILES.items()}
    known = {name: secs for name, secs in found.items() if secs is not None}
    return known or None
