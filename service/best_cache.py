"""Look-ups of bests, answered from memory: build pipelines ask more often than bests change."""

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from schedules.errors import UnavailableError
from schedules.records import Best
from service.db.store import Store
from service.events import Events
from tuner.client import convert

MAX_AGE_SECS = 1.0
"""So long an answer may be wrong where another process's notification is lost."""

_CAPACITY = 10_000
_PART = 1000

_Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class RenderedBest:
    """A best as it is sent.

    Attributes
    ----------
    body : bytes
        A `wire.BestView` in JSON.
    etag : str
        Entity tag of the body, quoted.
    """

    record_id: str
    body: bytes
    etag: str

    @classmethod
    def of(cls, best: Best) -> "RenderedBest":
        """Render a best."""
        body = convert.best_to_wire(best).model_dump_json().encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return cls(record_id=best.record_id, body=body, etag=etag)


@dataclass(kw_only=True)
class _Entry:
    found: RenderedBest | None
    checked_at: float
    used: bool = False


class BestCache:
    """Answers look-ups. Lives in one event loop, but for `forget` and `forget_all`.

    An answer is never older than the last change that this process made or was told of, and never
    older than `max_age_secs` in any case. That nothing is known is remembered like a best.

    Parameters
    ----------
    store : Store
        Has the bests.
    events : Events
        Tells of changes.
    max_age_secs : float
        How long an answer counts after it was last compared with the database.
    capacity : int
        How many answers are kept; the one that was not asked for longest goes first.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        store: Store,
        events: Events,
        *,
        max_age_secs: float = MAX_AGE_SECS,
        capacity: int = _CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._max_age_secs = max_age_secs
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._reads: dict[_Key, asyncio.Task[RenderedBest | None]] = {}
        events.on_best(self.forget, self.forget_all)

    async def look_up(self, workload_id: str, target_id: str) -> RenderedBest | None:
        """Return the best of a workload on a target, None if nothing is published.

        Raises
        ------
        UnavailableError
            It is not in memory and the database does not answer.
        """
        key = (workload_id, target_id)
        with self._lock:
            entry = self._fresh(key)
            if entry is not None:
                return entry.found
            # Many may ask for the same at once: one of them reads.
            read = self._reads.get(key)
            if read is None:
                read = self._reads[key] = asyncio.create_task(self._read(key))
        return await asyncio.shield(read)

    def remembered(self, workload_id: str, target_id: str) -> RenderedBest | None:
        """Return the best if it is in memory and not too old."""
        with self._lock:
            entry = self._fresh((workload_id, target_id))
            return None if entry is None else entry.found

    def forget(self, workload_id: str, target_id: str) -> None:
        """Read the best anew for whoever asks from now on. Any thread may call it."""
        key = (workload_id, target_id)
        with self._lock:
            self._entries.pop(key, None)
            # One that reads just now may have come too early.
            self._reads.pop(key, None)

    def forget_all(self) -> None:
        """Read every best anew. Any thread may call it."""
        with self._lock:
            self._entries.clear()
            self._reads.clear()

    async def run(self) -> None:
        """Keep what is asked for fit for use, until cancelled."""
        while True:
            await asyncio.sleep(self._max_age_secs / 2)
            try:
                await self.refresh()
            except UnavailableError:
                # Answers run out, and who asks is told.
                continue

    async def refresh(self) -> None:
        """Compare what was asked for since the last time with the database.

        Reading ids of many records at once costs next to nothing beside reading bests one by one
        whenever they have grown old.

        Raises
        ------
        UnavailableError
            The database does not answer.
        """
        used: defaultdict[str, list[tuple[str, _Entry]]] = defaultdict(list)
        with self._lock:
            for (workload_id, target_id), entry in self._entries.items():
                if entry.used:
                    entry.used = False
                    used[target_id].append((workload_id, entry))
        for target_id, entries in used.items():
            for start in range(0, len(entries), _PART):
                await self._compare(target_id, dict(entries[start : start + _PART]))

    async def _compare(self, target_id: str, entries: dict[str, _Entry]) -> None:
        checked_at = self._clock()
        record_ids = await run_in_threadpool(self._store.best_record_ids, target_id, list(entries))
        with self._lock:
            for workload_id, entry in entries.items():
                known = None if entry.found is None else entry.found.record_id
                if record_ids.get(workload_id) == known:
                    entry.checked_at = checked_at
                elif self._entries.get((workload_id, target_id)) is entry:
                    del self._entries[workload_id, target_id]

    async def _read(self, key: _Key) -> RenderedBest | None:
        checked_at = self._clock()
        try:
            found = await run_in_threadpool(self._render, key)
        except BaseException:
            with self._lock:
                if self._reads.get(key) is asyncio.current_task():
                    del self._reads[key]
            raise
        with self._lock:
            if self._reads.get(key) is asyncio.current_task():
                del self._reads[key]
                self._entries[key] = _Entry(found=found, checked_at=checked_at)
                self._entries.move_to_end(key)
                while len(self._entries) > self._capacity:
                    self._entries.popitem(last=False)
        return found

    def _fresh(self, key: _Key) -> _Entry | None:
        """Return an entry that still counts and note its use; callers hold the lock."""
        entry = self._entries.get(key)
        if entry is None or self._clock() > entry.checked_at + self._max_age_secs:
            return None
        entry.used = True
        self._entries.move_to_end(key)
        return entry

    def _render(self, key: _Key) -> RenderedBest | None:
        best = self._store.best(*key)
        return None if best is None else RenderedBest.of(best)
