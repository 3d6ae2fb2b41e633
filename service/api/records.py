"""``/v1/records``: the tuning log."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import BeforeValidator
from starlette.responses import StreamingResponse

from schedules.errors import InputError
from schedules.records import FailureKind, TuningRecord
from service import imports
from service.api.context import (
    DEFAULT_LIMIT,
    READ,
    SUBMIT,
    Context,
    Cursor,
    IdFilter,
    Limit,
    page,
)
from service.db.values import RecordFilter
from tuner.client import convert, wire

NDJSON = "application/x-ndjson"

# Lines that are sent together.
_LINES = 200

router = APIRouter(prefix="/v1/records", tags=["records"])


def _keep_plus(value: Any) -> Any:
    """Undo what a query string makes of the plus in ``+00:00`` when it is not escaped."""
    return re.sub(r" (\d\d:?\d\d)$", r"+\1", value) if isinstance(value, str) else value


Since = Annotated[
    datetime | None,
    BeforeValidator(_keep_plus),
    Query(description="Only records from this time on: ISO 8601, UTC where no zone is given."),
]


@router.get(
    "",
    response_model=wire.Page[wire.RecordView],
    responses={
        200: {
            "content": {NDJSON: {}},
            "description": f"A page; all records, one a line, with `Accept: {NDJSON}`.",
        }
    },
    dependencies=[READ],
)
def list_records(
    services: Context,
    workload_id: IdFilter = None,
    target_id: IdFilter = None,
    job_id: IdFilter = None,
    worker_id: IdFilter = None,
    failure: FailureKind | None = None,
    since: Since = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    accept: Annotated[str, Header()] = "",
) -> wire.Page[wire.RecordView] | Response:
    """List tuning records, newest first."""
    filters = RecordFilter(
        workload_id=workload_id,
        target_id=target_id,
        job_id=job_id,
        worker_id=worker_id,
        failure=failure,
        since=_in_utc(since) if since else None,
    )
    if NDJSON in accept.lower():
        return StreamingResponse(_lines(services.store.iter_records(filters)), media_type=NDJSON)
    found = services.store.records(filters, limit=limit, cursor=cursor)
    return page(found, convert.record_to_wire)


@router.post("/import", response_model=wire.ImportAnswer, dependencies=[SUBMIT])
def import_records(request: wire.ImportRequest, services: Context) -> wire.ImportAnswer:
    """Store measurements that were made elsewhere; sending them again changes nothing."""
    answer = imports.import_records(services.store, services.resolver, services.events, request)
    services.metrics.records_stored.labels("imported").inc(answer.stored)
    return answer


def _lines(records: Iterable[TuningRecord]) -> Iterator[str]:
    left = iter(records)
    while block := list(islice(left, _LINES)):
        yield "".join(f"{convert.record_to_wire(record).model_dump_json()}\n" for record in block)


def _in_utc(time: datetime) -> datetime:
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise InputError("'since' is out of range") from None
