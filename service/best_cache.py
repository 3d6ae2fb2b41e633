"""Look-ups of bests, answered from memory: build pipelines ask more often than bests change."""

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread

from schedules.errors import UnavailableError
from schedules.records import Best
from service.db.store import Store
from service.events import Events
from tuner.client import convert

MAX_AGE_SECS = 5.0
"""So long an answer may be wrong where another process's notification is lost."""

_READERS = 1
"""Threads that read bests: of their own, so that a look-up does not queue behind the fleet."""
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


_Read = asyncio.Future[RenderedBest | None]


class BestCache:
    """Answers look-ups. Lives in one event loop, but for `forget` and `forget_all`.

    An answer is never older than the last change that this process made or was told of, and never
    older than `max_age_secs` in any case. That nothing is known is remembered like a best.

    What has to be read is read for all who wait, in one go: the slower the database, the more of
    them share a reading, so that answers which ran out together cannot pile up.

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
        self._reads: dict[_Key, _Read] = {}
        self._due: list[tuple[_Key, _Read]] = []
        self._reader: asyncio.Task[None] | None = None
        self._readers = CapacityLimiter(_READERS)
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
            read = self._read(key)
        return await asyncio.shield(read)

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

        Raises
        ------
        UnavailableError
            The database does not answer.
        """
        with self._lock:
            used = [(key, entry) for key, entry in self._entries.items() if entry.used]
            for _, entry in used:
                entry.used = False
        for start in range(0, len(used), _PART):
            await self._compare(dict(used[start : start + _PART]))

    async def _compare(self, entries: Mapping[_Key, _Entry]) -> None:
        known = {key: entry.found for key, entry in entries.items()}
        checked_at = self._clock()
        found = await to_thread.run_sync(self._render, known, known, limiter=self._readers)
        with self._lock:
            for key, entry in entries.items():
                # One that was forgotten meanwhile changed after the reading.
                if self._entries.get(key) is entry:
                    entry.found, entry.checked_at = found.get(key), checked_at

    def _fresh(self, key: _Key) -> _Entry | None:
        """Return an entry that still counts and note its use; callers hold the lock."""
        entry = self._entries.get(key)
        if entry is None or self._clock() > entry.checked_at + self._max_age_secs:
            return None
        entry.used = True
        self._entries.move_to_end(key)
        return entry

    def _read(self, key: _Key) -> _Read:
        """Have a best read, or join whoever has; callers hold the lock."""
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = asyncio.get_running_loop().create_future()
            self._due.append((key, read))
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read_due())
        return read

    async def _read_due(self) -> None:
        while self._due:
            part, self._due = self._due[:_PART], self._due[_PART:]
            with self._lock:
                known = {key: self._entries[key].found for key, _ in part if key in self._entries}
            checked_at = self._clock()
            try:
                found = await to_thread.run_sync(
                    self._render, {key for key, _ in part}, known, limiter=self._readers
                )
            except Exception as error:
                self._failed(part, error)
            else:
                self._succeeded(part, found, checked_at)

    def _succeeded(
        self, part: list[tuple[_Key, _Read]], found: Mapping[_Key, RenderedBest], checked_at: float
    ) -> None:
        with self._lock:
            for key, read in part:
                best = found.get(key)
                if self._reads.get(key) is read:
                    del self._reads[key]
                    self._keep(key, best, checked_at)
                read.set_result(best)

    def _failed(self, part: list[tuple[_Key, _Read]], error: Exception) -> None:
        with self._lock:
            for key, read in part:
                if self._reads.get(key) is read:
                    del self._reads[key]
                read.set_exception(error)
                # Those who asked may be gone, and nobody else need hear of it.
                read.exception()

    def _keep(self, key: _Key, found: RenderedBest | None, checked_at: float) -> None:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(found=found, checked_at=checked_at)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        entry.found, entry.checked_at = found, checked_at

    def _render(
        self, keys: Collection[_Key], known: Mapping[_Key, RenderedBest | None]
    ) -> dict[_Key, RenderedBest]:
        """Read bests; those that are known and have not changed cost next to nothing."""
        by_target: defaultdict[str, list[str]] = defaultdict(list)
        for workload_id, target_id in keys:
            by_target[target_id].append(workload_id)
        found: dict[_Key, RenderedBest] = {}
        for target_id, workload_ids in by_target.items():
            record_ids = self._store.best_record_ids(target_id, workload_ids)
            changed = []
            for workload_id, record_id in record_ids.items():
                earlier = known.get((workload_id, target_id))
                if earlier is not None and earlier.record_id == record_id:
                    found[workload_id, target_id] = earlier
                else:
                    changed.append((workload_id, target_id))
            bests = self._store.bests_of(changed) if changed else {}
            found |= {key: RenderedBest.of(best) for key, best in bests.items()}
        return found
