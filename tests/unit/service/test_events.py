import asyncio
import threading
import time

from service.events import Events


def test_a_change_before_the_wait_is_not_lost() -> None:
    events = Events()
    with events.watch_jobs() as waiter:
        events.job_changed("a")
        assert waiter.wait(0)
        assert not waiter.wait(0)


def test_a_thread_is_woken_by_another() -> None:
    events = Events()
    with events.watch_jobs() as waiter:
        threading.Timer(0.05, events.job_changed, ["a"]).start()
        started = time.monotonic()
        assert waiter.wait(10)
        assert time.monotonic() - started < 5


def test_a_task_is_woken_by_a_thread_for_its_own_job_only() -> None:
    events = Events()

    async def run() -> None:
        with events.watch_job("a") as waiter:
            threading.Timer(0.0, events.job_changed, ["b"]).start()
            assert not await waiter.wait(0.1)
            threading.Timer(0.0, events.job_changed, ["a"]).start()
            assert await waiter.wait(10)

    asyncio.run(run())


def test_each_batch_wakes_one_who_waits_for_its_target() -> None:
    events = Events()

    async def run() -> list[bool]:
        async def wait(target_id: str) -> bool:
            with events.watch_batches(target_id) as waiter:
                return await waiter.wait(0.3)

        tasks = [asyncio.create_task(wait(target)) for target in ("x", "x", "x", "y")]
        await asyncio.sleep(0.05)
        assert events.waiting_workers() == 4
        events.batch_ready("x")
        events.batch_ready("x")
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(run()) == [True, True, False, False]
    assert events.waiting_workers() == 0


def test_who_leaves_without_having_looked_passes_the_batch_on() -> None:
    events = Events()

    async def run() -> None:
        with events.watch_batches("x") as other:
            with events.watch_batches("x") as first:
                events.batch_ready("x")
                events.batch_ready("x")
                assert await other.wait(1)
                assert first.pending
            assert await other.wait(1)

    asyncio.run(run())


def test_closing_wakes_everyone_and_whoever_comes_later() -> None:
    events = Events()

    async def run() -> None:
        with events.watch_batches("x") as batches, events.watch_job("a") as job:
            events.close()
            assert await batches.wait(1)
            assert await job.wait(1)
        with events.watch_batches("x") as late:
            assert await late.wait(1)

    asyncio.run(run())
    assert events.closed
    with events.watch_jobs() as waiter:
        assert waiter.wait(0)


def test_notifying_a_loop_that_is_gone_is_no_error() -> None:
    events = Events()

    async def run() -> None:
        watching = events.watch_job("a")
        watching.__enter__()
        kept.append(watching)

    kept: list[object] = []
    asyncio.run(run())
    events.job_changed("a")
