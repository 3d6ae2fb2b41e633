"""The short way for look-ups of bests, the product's hottest call."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from service.api.context import Services
from service.auth import Scope
from service.best_cache import RenderedBest
from service.errors import Refusal

PATH = "/v1/best"
KEEP = "private, no-cache"
"""Whoever keeps an answer asks each time whether it still holds, and may not show it to others."""

ID_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class _Route:
    """Names the route for `service.metrics`."""

    path: str = PATH


_ROUTE = _Route()


class LookUps:
    """ASGI middleware that answers plain look-ups whose answer is in memory.

    FastAPI would take several times as long as the answer. A query that is not written as clients
    write it, a sender who may not read, and a best that has to be read from the database go
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

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "GET":
            ids = _plain_ids(scope["query_string"])
            found = self._services.bests.remembered(*ids) if ids else None
            if found is not None and await self._answered(found, scope, send):
                return
        await self._app(scope, receive, send)

    async def _answered(self, found: RenderedBest, scope: Connection, send: Send) -> bool:
        """Send the best if its receiver may have it and has not got it; say whether it was."""
        sent = dict(scope["headers"])
        if b"if-none-match" in sent or not self._allowed(sent):
            return False
        scope["route"] = _ROUTE
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(found.body)).encode()),
            (b"etag", found.etag.encode()),
            (b"cache-control", KEEP.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": found.body})
        return True

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
