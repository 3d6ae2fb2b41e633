"""Refusing bodies that nothing behind could handle, before anything parses them.

JSON allows what databases and hashes do not: NUL characters, half surrogate pairs, numbers out of
range, any depth. All of it ends here as a 422, a body beyond the limit as a 413.
"""

import json
import math
import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Refusal, error_answer

MAX_DEPTH = 64

_MAX_INTEGER = 2**63 - 1
# Bodies of this size are checked without holding up other requests.
_LARGE_BYTES = 64 * 2**10
# Only texts with one of these can hold a NUL, a surrogate, or a number that is out of range.
_SUSPECT = re.compile(r"\\u0000|\\u[dD][89a-fA-F]|\d{18}|[eE]\+?\d{3}")
# What a failed candidate printed may have anything in it. It is cleaned where it is stored: a
# measurement is not refused for the text beside it.
_FREE_TEXT = "detail"
_SURROGATE = re.compile("[\ud800-\udfff]")


class BodyGuard:
    """ASGI middleware that reads the whole body, checks it, and hands it on.

    Parameters
    ----------
    app : ASGIApp
        What is behind.
    max_bytes : int
        Largest accepted body.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _check_address(scope)
            body = await self._read(scope, receive)
            if body:
                await _check_body(Headers(scope=scope), body)
        except Refusal as refusal:
            await error_answer(refusal)(scope, receive, send)
            return
        except _GoneError:
            return

        handed_on = False

        async def replay() -> Message:
            nonlocal handed_on
            if handed_on:
                return await receive()
            handed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return b""
        announced = int(declared) if declared.isdecimal() else 0
        too_large = announced > self._max_bytes
        # A client that waits for permission gets its answer now; another one is still sending and
        # would miss an answer on a connection that is closed under it.
        if too_large and "expect" in headers:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            chunk = message.get("body", b"")
            size += len(chunk)
            too_large = too_large or size > self._max_bytes
            if too_large:
                chunks.clear()
            else:
                chunks.append(chunk)
            if not message.get("more_body", False) or size > 2 * self._max_bytes:
                break
        if too_large:
            raise self._too_large()
        return b"".join(chunks)

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            "body_too_large",
            f"the body is larger than {self._max_bytes} bytes; send less at once",
            {"Connection": "close"},
        )


class _GoneError(Exception):
    """The client hung up while sending."""


def check_json(body: bytes) -> None:
    """Check that a body is JSON that everything behind can handle.

    Raises
    ------
    Refusal
        A 422 that says what is wrong.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(f"it is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise _invalid(f"it is not JSON: {error}") from None
    except ValueError as error:
        # Python refuses to read integers of thousands of digits.
        raise _invalid(str(error)) from None
    _check_value(value, suspect=_SUSPECT.search(text) is not None)


def _check_value(value: Any, *, suspect: bool) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if suspect:
            for node in level:
                _check_scalars(node)
        level = [
            child
            for node in level
            if type(node) in (dict, list)
            for child in (_values(node) if type(node) is dict else node)
            if suspect or type(child) in (dict, list)
        ]
        if not level:
            return
    raise _too_deep()


def _values(node: dict[str, Any]) -> list[Any]:
    return [value for name, value in node.items() if name != _FREE_TEXT or type(value) is not str]


def _check_scalars(node: Any) -> None:
    for text in node if isinstance(node, dict) else (node,):
        if isinstance(text, str) and ("\0" in text or _SURROGATE.search(text)):
            raise _invalid("a string has a NUL character or half of a surrogate pair")
    if isinstance(node, float) and not math.isfinite(node):
        raise _invalid("a number is too large")
    if isinstance(node, int) and abs(node) > _MAX_INTEGER:
        raise _invalid("an integer does not fit in 64 bits")


async def _check_body(headers: Headers, body: bytes) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _invalid("send it as JSON, with the header Content-Type: application/json")
    if len(body) > _LARGE_BYTES:
        await run_in_threadpool(check_json, body)
    else:
        check_json(body)


def _check_address(scope: Scope) -> None:
    if "\0" in scope["path"]:
        raise Refusal(404, "not_found", "no path has a NUL character")
    if b"%00" in scope["query_string"] or b"\0" in scope["query_string"]:
        raise Refusal(422, "invalid_request", "a query parameter has a NUL character")


def _no_constant(name: str) -> Any:
    raise _invalid(f"{name} is not JSON; leave the value out or use null")


def _too_deep() -> Refusal:
    return _invalid(f"it is nested deeper than {MAX_DEPTH} levels")


def _invalid(why: str) -> Refusal:
    return Refusal(422, "invalid_request", f"the body cannot be used: {why}")
