"""Looks bests up over HTTP, in a process of its own; prints what it saw as JSON.

Run as ``python -m tests.benchmarks.service.lookups``; the first line of its input is the JSON of a
`Load`, and the end of the input ends the load early.
"""

import asyncio
import json
import random
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import uvloop

from tests.benchmarks.service.client import ANSWER_SECS, Connection, Tally


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to ask for, and how often.

    Attributes
    ----------
    paths : tuple of str
        Asked for at random; where `bodies` are given, they are posted to the one path.
    per_sec : float
        Requests are due at this rate, whatever the server does (open loop), and their times count
        from then; 0: the next one is sent after an answer, on every connection (closed loop).
    secs : float
        How long.
    connections : int
        How many requests may be open at once.
    answer_secs : float
        An answer that takes longer counts as none.
    """

    port: int
    paths: tuple[str, ...]
    bodies: tuple[Any, ...] = ()
    per_sec: float
    secs: float
    connections: int
    answer_secs: float = ANSWER_SECS


async def run(load: Load) -> dict[str, Any]:
    """Put the load on the server."""
    tally = Tally()
    chance = random.Random(0)
    due_at: asyncio.Queue[float | None] = asyncio.Queue()
    ended = threading.Event()

    def end_with_input() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=end_with_input, daemon=True).start()

    async def ask(connection: Connection) -> int:
        if load.bodies:
            body = chance.choice(load.bodies)
            answer = await connection.post(load.paths[0], body, load.answer_secs)
        else:
            answer = await connection.get(chance.choice(load.paths), load.answer_secs)
        return answer.status

    async def open_loop(connection: Connection) -> None:
        while (since := await due_at.get()) is not None:
            tally.note("lookup", await ask(connection), time.monotonic() - since)

    async def closed_loop(connection: Connection) -> None:
        while (since := time.monotonic()) < started + load.secs:
            tally.note("lookup", await ask(connection), time.monotonic() - since)

    async def schedule() -> None:
        due = started
        while due < started + load.secs and not ended.is_set():
            due_at.put_nowait(due)
            # Independent clients: the times between their requests are exponential.
            due += chance.expovariate(load.per_sec)
            if (ahead := due - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
        for _ in range(load.connections):
            due_at.put_nowait(None)

    connections = [Connection("127.0.0.1", load.port) for _ in range(load.connections)]
    # A server's first answers take longer than all others.
    await asyncio.gather(*(ask(connection) for connection in connections))
    tally.begin()
    started = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for connection in connections:
            tasks.create_task((open_loop if load.per_sec else closed_loop)(connection))
        if load.per_sec:
            tasks.create_task(schedule())
    for connection in connections:
        connection.close()
    return tally.report()


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(Load(**json.loads(sys.stdin.readline()))))))
