"""The short way for look-ups of bests, the product's hottest call."""

import time

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from schedules.errors import UnavailableError
from service.api.context import Services
from service.auth import Scope
from service.best_cache import RenderedBest
from service.errors import Refusal

PATH = "/v1/best"
KEEP = "private, no-cache"
"""Whoever keeps an answer asks each time whether it still holds, and may not show it to others."""

ID_LENGTH = 200


class LookUps:
    """ASGI application that answers plain look-ups of what is published, in front of all else.

    FastAPI and its middlewares would take several times as long as the answer. A query that is not
    written as clients write it, a sender who may not read, and a best that is not there go
    FastAPI's way: what is declared on the endpoint, and how it refuses, holds for all.

    Parameters
    ----------
    app : ASGIApp
        What is behind.
    services : Services
        Have the bests and know the tokens.
    """

    def __init__(self, app: ASGIApp, *, services: Services) -> None:
        self._app = app
        self._services = services
        self._note = services.metrics.answers_of("GET", PATH, 200)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "GET":
            started = time.perf_counter()
            found = await self._found(scope)
            if found is not None:
                await _answer(found, send)
                self._note(time.perf_counter() - started)
                return
        await self._app(scope, receive, send)

    async def _found(self, scope: Connection) -> RenderedBest | None:
        """Look the best up if its receiver may have it and has not got it."""
        ids = _plain_ids(scope["query_string"])
        sent = dict(scope["headers"])
        if ids is None or b"if-none-match" in sent or not self._allowed(sent):
            return None
        try:
            return await self._services.bests.look_up(*ids)
        except UnavailableError:
            return None

    def _allowed(self, sent: dict[bytes, bytes]) -> bool:
        authorization, host = sent.get(b"authorization"), sent.get(b"host", b"")
        try:
            self._services.auth.check(
                None if authorization is None else authorization.decode("latin-1"),
                host.decode("latin-1"),
                Scope.READ,
            )
        except Refusal:
            return False
        return True


async def _answer(found: RenderedBest, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(found.body)).encode()),
        (b"etag", found.etag.encode()),
        (b"cache-control", KEEP.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": found.body})


def _plain_ids(query: bytes) -> tuple[str, str] | None:
    """Read the two ids of a query that is written as clients write it, None for any other."""
    first, _, second = query.partition(b"&")
    if first.startswith(b"target_id="):
        first, second = second, first
    workload_id = first.removeprefix(b"workload_id=")
    target_id = second.removeprefix(b"target_id=")
    if len(workload_id) == len(first) or len(target_id) == len(second):
        return None
    for value in (workload_id, target_id):
        if not value.isalnum() or len(value) > ID_LENGTH:
            return None
    return workload_id.decode(), target_id.decode()
