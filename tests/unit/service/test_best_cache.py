"""Answers of look-ups are never older than they may be."""

import asyncio
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from schedules.errors import UnavailableError
from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.records import Best, Environment, Tier
from service.best_cache import BestCache
from service.db.migrate import upgrade
from service.db.store import Store
from service.events import Events
from tests.records import TARGET, candidate

WORKLOAD = workload_from_call(find_operator("softmax").call({"m": 8, "n": 8}))
KEY = (WORKLOAD.workload_id, TARGET.target_id)
OLD = Best(
    tier=Tier.EXACT,
    workload_id=WORKLOAD.workload_id,
    target_id=TARGET.target_id,
    latency_secs=2e-3,
    latency_interval_secs=(1e-3, 3e-3),
    default_latency_secs=None,
    trace=candidate(1).trace,
    trace_id=candidate(1).trace_id,
    verified=True,
    record_id="old",
    environment=Environment(),
    model_version=None,
    created_at=datetime.now(UTC),
)
NEW = replace(OLD, latency_secs=1e-3, record_id="new")


class CountingStore(Store):
    """Counts looks and reads of bests, and holds reads up on demand."""

    looks = 0
    reads = 0
    after_reading = threading.Event()
    may_answer = threading.Event()

    def best_record_ids(self, target_id: str, workload_ids: Collection[str]) -> dict[str, str]:
        self.looks += 1
        return super().best_record_ids(target_id, workload_ids)

    def bests_of(self, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], Best]:
        found = super().bests_of(pairs)
        self.reads += 1
        self.after_reading.set()
        assert self.may_answer.wait(10)
        return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url)
    store = CountingStore.open(url)
    assert isinstance(store, CountingStore)
    store.after_reading, store.may_answer = threading.Event(), threading.Event()
    store.may_answer.set()
    store.save_workload(WORKLOAD)
    store.save_target(TARGET)
    yield store
    store.close()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def record_id(cache: BestCache) -> str | None:
    found = await cache.look_up(*KEY)
    return None if found is None else found.record_id


def publish(store: Store, best: Best) -> None:
    store.publish(best, owner=None, job_id=None)


def test_a_best_is_read_once_and_anew_as_soon_as_it_changes(store: CountingStore) -> None:
    events = Events()
    cache = BestCache(store, events, clock=Clock())

    async def run() -> None:
        publish(store, OLD)
        assert [await record_id(cache) for _ in range(3)] == ["old"] * 3
        assert store.reads == 1
        publish(store, NEW)
        events.best_changed(*KEY)
        assert await record_id(cache) == "new"

    asyncio.run(run())


def test_that_nothing_is_known_is_remembered_until_something_is(store: CountingStore) -> None:
    events = Events()
    cache = BestCache(store, events, clock=Clock())

    async def run() -> None:
        assert [await record_id(cache) for _ in range(3)] == [None] * 3
        assert store.looks == 1
        publish(store, OLD)
        events.best_changed(*KEY)
        assert await record_id(cache) == "old"

    asyncio.run(run())


def test_a_change_that_nobody_told_of_is_seen_within_the_bound(store: CountingStore) -> None:
    clock = Clock()
    cache = BestCache(store, Events(), max_age_secs=1.0, clock=clock)

    async def run() -> None:
        publish(store, OLD)
        assert await record_id(cache) == "old"
        publish(store, NEW)
        clock.now = 1.0
        assert await record_id(cache) == "old"
        clock.now = 1.01
        assert await record_id(cache) == "new"

    asyncio.run(run())


def test_what_is_asked_for_often_is_compared_instead_of_read_again(store: CountingStore) -> None:
    clock = Clock()
    cache = BestCache(store, Events(), max_age_secs=1.0, clock=clock)

    async def run() -> None:
        publish(store, OLD)
        for clock.now in (0.0, 0.9, 1.8, 2.7):
            assert await record_id(cache) == "old"
            await cache.refresh()
        assert store.reads == 1
        publish(store, NEW)
        await record_id(cache)
        await cache.refresh()
        assert await record_id(cache) == "new"

    asyncio.run(run())


def test_a_reading_that_a_change_overtook_is_not_kept(store: CountingStore) -> None:
    events = Events()
    cache = BestCache(store, events, clock=Clock())

    async def run() -> None:
        publish(store, OLD)
        store.may_answer.clear()
        early = asyncio.create_task(record_id(cache))
        await asyncio.to_thread(store.after_reading.wait, 10)
        publish(store, NEW)
        events.best_changed(*KEY)
        late = asyncio.create_task(record_id(cache))
        await asyncio.sleep(0)
        store.may_answer.set()
        assert await early == "old"
        assert await late == "new"
        assert await record_id(cache) == "new"

    asyncio.run(run())


def test_many_who_ask_at_once_share_one_reading(store: CountingStore) -> None:
    cache = BestCache(store, Events(), clock=Clock())

    async def run() -> None:
        publish(store, OLD)
        found = await asyncio.gather(*(record_id(cache) for _ in range(20)))
        assert set(found) == {"old"}
        assert (store.looks, store.reads) == (1, 1)

    asyncio.run(run())


def test_what_was_asked_for_during_a_reading_is_read_together(store: CountingStore) -> None:
    cache = BestCache(store, Events(), clock=Clock())

    async def run() -> None:
        publish(store, OLD)
        store.may_answer.clear()
        first = asyncio.create_task(record_id(cache))
        await asyncio.to_thread(store.after_reading.wait, 10)
        others = [asyncio.create_task(cache.look_up(str(n), TARGET.target_id)) for n in range(20)]
        await asyncio.sleep(0)
        store.may_answer.set()
        assert await first == "old"
        assert await asyncio.gather(*others) == [None] * 20
        assert store.looks == 2

    asyncio.run(run())


def test_a_database_that_fails_is_asked_again(store: CountingStore) -> None:
    cache = BestCache(store, Events(), clock=Clock())

    async def run() -> None:
        publish(store, OLD)
        with patch.object(store, "bests_of", side_effect=UnavailableError("gone")):
            for _ in range(2):
                with pytest.raises(UnavailableError, match="gone"):
                    await record_id(cache)
        assert await record_id(cache) == "old"

    asyncio.run(run())


def test_lost_notifications_empty_the_memory(store: CountingStore) -> None:
    events = Events()
    cache = BestCache(store, events, clock=Clock())

    async def run() -> None:
        publish(store, OLD)
        assert await record_id(cache) == "old"
        publish(store, NEW)
        events.missed()
        assert await record_id(cache) == "new"

    asyncio.run(run())


def test_the_memory_is_bounded(store: CountingStore) -> None:
    cache = BestCache(store, Events(), capacity=2, clock=Clock())

    async def run() -> None:
        for name in ("a", "b", "c", "c", "b", "a"):
            await cache.look_up(name, "target")
        assert store.looks == 4

    asyncio.run(run())
