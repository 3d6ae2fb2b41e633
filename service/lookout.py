"""Looking into the queue for all workers that wait at this process.

To lease is to write, and a thousand idle workers that tried it now and then would be the server's
main load. So one cheap look serves all who wait for a target, and wakes as many as there is work
for.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Collection

from starlette.concurrency import run_in_threadpool

from schedules.errors import TunesmithError
from service.db.idle import Prospect
from service.db.store import Store
from service.events import Events
from service.recent import Recent
from tuner.jitter import jitter

logger = logging.getLogger(__name__)

TOUCH_EVERY_SECS = 10.0
"""How often it is noted who waits: all of them in one transaction, well before they are offline."""

_AT_ONCE_SECS = 1.0
_REMEMBERED = 10_000
# A long list of values makes a slow statement.
_PART = 1000


class Lookout:
    """Looks into the queue for waiting workers. Lives in one event loop, except where it says so.

    Parameters
    ----------
    store : Store
        Has the queue.
    events : Events
        Knows who waits, and tells of batches that other processes queue.
    poll_secs : float
        Seconds between looks for what no notification told of.
    """

    def __init__(self, store: Store, events: Events, *, poll_secs: float) -> None:
        self._store = store
        self._events = events
        self._poll_secs = poll_secs
        self._arrivals: defaultdict[str, list[tuple[str, asyncio.Future[bool]]]] = defaultdict(list)
        self._looking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._due: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unseen: set[str] = set()
        self._touched_at = float("-inf")
        self._news: Counter[str] = Counter()
        self._empty_until: dict[str, float] = {}
        self._sent_away: Recent[str, float] = Recent(_REMEMBERED)

    async def has_work(self, worker_id: str, target_id: str) -> bool:
        """Say whether a worker that just came should try to lease, and note that it is there.

        It should where a batch is ready that no other one was sent for, and where it still has a
        lease. It must be watching for batches already, so that none is missed after the look. One
        that was sent away a moment ago costs no look of its own.

        Raises
        ------
        UnavailableError
            The database does not answer.
        """
        self._unseen.add(worker_id)
        now = time.monotonic()
        came_back_at_once = now < (self._sent_away.get(worker_id) or 0.0) + _AT_ONCE_SECS
        if came_back_at_once and now < self._empty_until.get(target_id, 0.0):
            # It can hold no lease, and the queue is as it was at the last look.
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._arrivals[target_id].append((worker_id, answer))
        self._look_soon(target_id)
        return await answer

    def sent_away(self, worker_id: str) -> None:
        """Note that a worker was answered that there is no work; it may ask again at once."""
        self._sent_away.put(worker_id, time.monotonic())

    async def run(self) -> None:
        """Look at every target with waiting workers now and then, until cancelled."""
        loop = asyncio.get_running_loop()

        def told(target_id: str) -> None:
            """See `Events.on_batches`; any thread may call it."""
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._told, target_id)

        self._events.on_batches(told)
        while True:
            await asyncio.sleep(self._poll_secs * jitter(0.75, 1.25))
            for target_id in self._events.waiting_by_target():
                await self._look(target_id)

    def _told(self, target_id: str) -> None:
        self._news[target_id] += 1
        self._empty_until.pop(target_id, None)
        if target_id in self._events.waiting_by_target():
            self._look_soon(target_id)

    def _look_soon(self, target_id: str) -> None:
        """Begin a look, unless one has yet to begin: it will see what this one would."""
        if target_id not in self._due:
            self._due.add(target_id)
            task = asyncio.create_task(self._look(target_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look(self, target_id: str) -> None:
        async with self._looking[target_id]:
            self._due.discard(target_id)
            arrivals = self._arrivals.pop(target_id, [])
            news = self._news[target_id]
            try:
                await self._touch()
                found = await self._prospect(target_id, {worker_id for worker_id, _ in arrivals})
            except Exception as error:
                # Who came just now is told; who waits already goes on waiting.
                if not isinstance(error, TunesmithError):
                    logger.exception("a look into the queue failed")
                for _, answer in arrivals:
                    if not answer.done():
                        answer.set_exception(error)
                return
            left = found.leasable
            for worker_id, answer in arrivals:
                if answer.done():
                    continue
                answer.set_result(worker_id in found.holders or left > 0)
                left -= left > 0
            if left == 0 and news == self._news[target_id]:
                self._empty_until[target_id] = time.monotonic() + self._poll_secs
            self._events.wake_workers(target_id, left)

    async def _prospect(self, target_id: str, worker_ids: Collection[str]) -> Prospect:
        waiting = self._events.waiting_by_target().get(target_id, 0)
        return await run_in_threadpool(
            self._store.prospect, target_id, worker_ids, most=max(1, waiting)
        )

    async def _touch(self) -> None:
        if not self._unseen or time.monotonic() < self._touched_at + TOUCH_EVERY_SECS:
            return
        self._touched_at = time.monotonic()
        unseen, self._unseen = sorted(self._unseen), set()
        for start in range(0, len(unseen), _PART):
            await run_in_threadpool(self._store.touch_workers, unseen[start : start + _PART])
