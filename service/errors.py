"""What errors become over HTTP; nothing else in the project knows statuses of refusals."""

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from schedules import errors
from schedules.identity import canonical_json

RETRY_AFTER_SECS = 2.0
_DETAIL_LIMIT = 2000

_ERRORS: Mapping[type[Exception], tuple[int, str]] = {
    errors.UnknownOperatorError: (422, "unknown_operator"),
    errors.InvalidArgumentError: (422, "invalid_argument"),
    errors.InvalidWorkloadError: (422, "invalid_workload"),
    errors.InvalidTargetError: (422, "invalid_target"),
    errors.InvalidTraceError: (422, "invalid_trace"),
    errors.InputError: (422, "invalid_input"),
    errors.NotFoundError: (404, "not_found"),
    errors.ConflictError: (409, "conflict"),
    errors.UnavailableError: (503, "unavailable"),
}


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """An answer that only HTTP knows: a missing token, a body too large, too many jobs."""

    def __init__(
        self, status: int, name: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.headers = headers


class ErrorAnswer(JSONResponse):
    """The body of every refusal, in ASCII: details may quote what was sent."""

    def render(self, content: Any) -> bytes:
        """Write the body."""
        return canonical_json(content).encode("ascii")


def answer(
    status: int, name: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Make the answer for a refusal."""
    if len(detail) > _DETAIL_LIMIT:
        detail = detail[:_DETAIL_LIMIT] + " [shortened]"
    return ErrorAnswer({"error": name, "detail": detail}, status, headers=headers)


def retry_after(secs: float) -> Mapping[str, str]:
    """Make the header that says when to come again."""
    return {"Retry-After": str(math.ceil(secs))}


def error_answer(error: Exception) -> Response:
    """Make the answer for an error of the tree, a refusal, or a fault of ours."""
    refusal = refusal_of(error)
    return answer(refusal.status, refusal.name, refusal.detail, refusal.headers)


def refusal_of(error: Exception) -> Refusal:
    """Say what an error of the tree, a refusal, or a fault of ours is over HTTP."""
    if isinstance(error, Refusal):
        return error
    for kind in type(error).__mro__:
        if kind in _ERRORS:
            status, name = _ERRORS[kind]
            break
    else:
        return Refusal(
            500, "internal_error", "the server failed to answer; its log says why, please report it"
        )
    headers = retry_after(RETRY_AFTER_SECS) if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return Refusal(status, name, str(error), headers)


def validation_detail(problems: Sequence[Mapping[str, Any]]) -> str:
    """Say in words which fields do not validate and why."""
    shown = []
    for problem in problems[:5]:
        where = _field(problem["loc"])
        what = str(problem["msg"])
        shown.append(f"{where}: {what[:1].lower()}{what[1:]}")
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    return "; ".join(shown)


def install(app: FastAPI) -> None:
    """Give every error of an application the one shape."""

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(422, "invalid_request", validation_detail(error.errors()))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        name = status.name.lower()
        detail = {
            HTTPStatus.NOT_FOUND: f"there is no {request.url.path}; see /openapi.json",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.url.path} does not take {request.method}",
        }.get(status, str(error.detail))
        return answer(status, name, detail, error.headers)

    async def known(request: Request, error: Exception) -> Response:
        return error_answer(error)

    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    for kind in (errors.TunesmithError, Refusal, *_ERRORS):
        app.add_exception_handler(kind, known)
    # Starlette answers with this one and raises on, so that the server logs the trace.
    app.add_exception_handler(Exception, known)


def _field(location: Sequence[str | int]) -> str:
    """Write a location as people write fields: without the parts that only pydantic knows."""
    if len(location) > 1 and location[0] in ("body", "query", "header", "path"):
        location = location[1:]
    named: list[str] = []
    skip = False
    for part in location:
        if skip:
            skip = False
        elif isinstance(part, int):
            named.append(f"[{part}]")
        elif re.fullmatch(r"[\w-]{1,100}", part) and part != "constrained-str":
            named.append(f".{part}")
            # After it comes the name of the union's form.
            skip = part == "workload"
    return "".join(named).lstrip(".") or "body"
