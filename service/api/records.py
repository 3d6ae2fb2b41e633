"""``/v1/records``: the tuning log."""

from collections.abc import Iterable, Iterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from starlette.responses import StreamingResponse

from schedules.records import TuningRecord
from service import imports
from service.api.context import READ, SUBMIT, Context, page
from service.api.queries import only, record_filter
from service.api.views import summary_view
from service.db.summary_values import GroupBy
from tuner.client import convert, wire

NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"

router = APIRouter(prefix="/v1/records", tags=["records"])


@router.get(
    "",
    response_model=wire.Page[wire.RecordView],
    responses={
        200: {
            "content": {NDJSON: {}, PARQUET: {}},
            "description": f"A page, which may be short where several conditions have to hold; "
            f"all records, one a line, with `Accept: {NDJSON}`; a Parquet file of all of them with "
            f"`Accept: {PARQUET}`.",
        }
    },
    dependencies=[READ, only(wire.RecordPageQuery)],
)
def list_records(
    services: Context,
    query: Annotated[wire.RecordPageQuery, Query()],
    accept: Annotated[str, Header()] = "",
) -> wire.Page[wire.RecordView] | Response:
    """List tuning records, newest first."""
    filters = record_filter(query)
    if NDJSON in accept.lower():
        lines = services.store.record_lines(filters, _line)
        return StreamingResponse(_with_first(lines), media_type=NDJSON)
    if PARQUET in accept.lower():
        # Not before it is needed: Arrow takes more memory than the rest of the server.
        from service import parquet

        lines = services.store.record_lines(filters, parquet.flat_line, flat=True)
        return StreamingResponse(
            _with_first(parquet.file_of(lines)),
            media_type=PARQUET,
            headers={"Content-Disposition": 'attachment; filename="records.parquet"'},
        )
    found = services.store.records(filters, limit=query.limit, cursor=query.cursor)
    return page(found, convert.record_to_wire)


@router.get(
    "/summary",
    response_model=wire.SummaryView,
    dependencies=[READ, only(wire.SummaryQuery)],
)
def summarise(services: Context, query: Annotated[wire.SummaryQuery, Query()]) -> wire.SummaryView:
    """Count records by group, with quantiles of their latencies."""
    group_by = GroupBy(query.group_by)
    found = services.store.summarise(group_by, record_filter(query), limit=query.limit)
    return summary_view(group_by, found)


@router.post("/import", response_model=wire.ImportAnswer, dependencies=[SUBMIT])
def import_records(request: wire.ImportRequest, services: Context) -> wire.ImportAnswer:
    """Store measurements that were made elsewhere; sending them again changes nothing."""
    answer = imports.import_records(services.store, services.resolver, services.events, request)
    services.metrics.records_stored.labels("imported").inc(answer.stored)
    return answer


def _line(record: TuningRecord) -> str:
    return convert.record_to_wire(record).model_dump_json()


def _with_first(blocks: Iterable[bytes]) -> Iterable[bytes]:
    """Make the first block before the answer begins, so that an error can still be one."""
    left: Iterator[bytes] = iter(blocks)
    first = next(left, b"")

    def all_blocks() -> Iterator[bytes]:
        yield first
        yield from left

    return all_blocks()
