"""As little of an HTTP client as a load generator needs, so that it leaves the cores to others."""

import asyncio
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ANSWER_SECS = 10.0

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """An answer; status 0 stands for none in time, and for a connection that broke."""

    status: int
    head: bytes = b""
    body: bytes = b""

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)

    @property
    def retry_after_secs(self) -> float:
        """What the server says about coming again."""
        found = re.search(rb"retry-after: (\d+)", self.head, re.IGNORECASE)
        return float(found[1]) if found else 1.0


class Connection:
    """One kept-alive connection; serves one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, wait_secs: float = ANSWER_SECS) -> Answer:
        """Send a GET."""
        return await self._send(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(), wait_secs
        )

    async def post(self, path: str, body: Any, wait_secs: float = ANSWER_SECS) -> Answer:
        """Send a POST with a JSON body."""
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        return await self._send(head.encode() + content, wait_secs)

    def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _send(self, request: bytes, wait_secs: float) -> Answer:
        try:
            async with asyncio.timeout(wait_secs):
                return await self._exchange(request)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.close()
            return Answer(0)

    async def _exchange(self, request: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=2**20)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        return Answer(int(head[9:12]), head, body)


@dataclass
class Tally:
    """Counts of answers and lists of times, as plain data."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    secs: dict[str, list[float]] = field(default_factory=dict)
    _began: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        """Count wall and processor time from now on."""
        self._began = (time.monotonic(), time.process_time())

    def note(self, kind: str, status: int, secs: float | None = None) -> None:
        """Count an answer; keep how long it took, where that is asked for."""
        self.statuses.setdefault(kind, Counter())[str(status)] += 1
        if secs is not None:
            self.secs.setdefault(kind, []).append(secs)

    def report(self) -> dict[str, Any]:
        """Write everything, with the share of a core that this process took."""
        wall_secs = time.monotonic() - self._began[0]
        return {
            "statuses": self.statuses,
            "quantiles": {kind: quantiles(secs) for kind, secs in self.secs.items()},
            "wall_secs": wall_secs,
            "cpu_share": (time.process_time() - self._began[1]) / wall_secs,
        }


def quantiles(secs: list[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the maximum in milliseconds, and the count."""
    ordered = sorted(secs) or [0.0]
    last = len(ordered) - 1
    return {
        "count": len(secs),
        "p50_ms": 1e3 * ordered[round(0.5 * last)],
        "p99_ms": 1e3 * ordered[round(0.99 * last)],
        "max_ms": 1e3 * ordered[last],
    }
