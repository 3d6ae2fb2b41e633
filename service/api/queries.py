"""Queries: which fields there are, and what they mean to the store."""

from collections import Counter
from typing import Any

from fastapi import Depends, Request
from pydantic import BaseModel

from schedules.records import FailureKind
from service.db.queries import RecordFilter
from service.errors import Refusal
from tuner.client import wire
from tuner.client.wire.log import NONE


def only(model: type[BaseModel]) -> Any:
    """Make a dependency that refuses queries with other fields than those of a model.

    What is misspelt would restrict nothing, and the answer would look as if it did.
    """
    known = tuple(model.model_fields)

    async def check(request: Request) -> None:
        counts = Counter(name for name, _ in request.query_params.multi_items())
        for name, count in counts.items():
            if name not in known:
                raise Refusal(
                    422,
                    "invalid_request",
                    f"{name[:100]!r} is no field of this query; its fields are {', '.join(known)}",
                )
            if count > 1:
                raise Refusal(422, "invalid_request", f"{name}: give it once, not {count} times")

    return Depends(check)


def record_filter(query: wire.RecordQuery) -> RecordFilter:
    """Read which records are meant."""
    failure, operator = query.failure, query.operator
    same = query.model_dump(include=set(wire.RecordQuery.model_fields) - {"failure", "operator"})
    return RecordFilter(
        **same,
        failure=None if failure in (None, NONE) else FailureKind(failure),
        failed=False if failure == NONE else None,
        operator=None if operator == NONE else operator,
        from_ir=operator == NONE,
    )
