"""A proxy that loses, doubles and delays what passes through it."""

import asyncio
import random
import threading
from collections import Counter
from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Odds:
    """How often a call meets which fault, and for how long it may be held up.

    Attributes
    ----------
    drop : float
        The call never reaches the server.
    double : float
        It reaches the server twice; the second answer is given.
    lose_answer : float
        It reaches the server, and the answer is lost.
    delay_secs : float
        Each call is held up for a random time up to this, half of it on the way back.
    """

    drop: float = 0.2
    double: float = 0.1
    lose_answer: float = 0.1
    delay_secs: float = 5.0


class FaultProxy:
    """Passes HTTP calls on to a server, one for each connection; runs in a thread of its own.

    Parameters
    ----------
    server_port : int
        Where the server listens on this machine.
    odds : Odds
        What happens to calls.

    Attributes
    ----------
    calls : Counter
        How many calls came while it was unreliable, under ``calls``, and how many met each fault.
    """

    def __init__(self, server_port: int, odds: Odds) -> None:
        self.calls: Counter[str] = Counter()
        self.port = 0
        self._server_port = server_port
        self._odds: Odds | None = odds
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-proxy")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *raised: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def make_reliable(self) -> None:
        """Pass everything on at once from now on."""
        self._odds = None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.run_until_complete(server.wait_closed())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_message(reader)
            answer = await self._pass_on(request)
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.calls["broken"] += 1
        finally:
            writer.close()

    async def _pass_on(self, request: bytes) -> bytes | None:
        """Return the answer, None where the caller gets none."""
        odds = self._odds
        if odds is None:
            return await self._ask(request)
        fate = random.random()
        self.calls["calls"] += 1
        await asyncio.sleep(random.uniform(0, odds.delay_secs / 2))
        if fate < odds.drop:
            self.calls["drop"] += 1
            return None
        answer = await self._ask(request)
        await asyncio.sleep(random.uniform(0, odds.delay_secs / 2))
        if fate < odds.drop + odds.double:
            self.calls["double"] += 1
            answer = await self._ask(request)
        elif fate < odds.drop + odds.double + odds.lose_answer:
            self.calls["lose_answer"] += 1
            return None
        return answer

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            writer.write(request)
            await writer.drain()
            return await _read_message(reader)
        finally:
            writer.close()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    """Read one request or answer, and ask for the connection to be closed after it."""
    head = await reader.readuntil(_HEAD_END)
    start, *headers = head.removesuffix(_HEAD_END).split(b"\r\n")
    length = 0
    kept = []
    for header in headers:
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if name.lower() != b"connection":
            kept.append(header)
    body = await reader.readexactly(length)
    return b"\r\n".join([start, *kept, b"Connection: close"]) + _HEAD_END + body
