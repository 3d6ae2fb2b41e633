"""Waking those who wait for a change, in this process and through `service.db.notify` in others.

A notification carries no data and may be lost (the database restarted, a waiter was late): whoever
waits reads the database again after each wake-up, and also now and then without one.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ANY_JOB = "jobs"
_JOB = "job"
_BATCH = "batch"
_BEST = "best"

BatchListener = Callable[[str], None]
BestListener = Callable[[str, str], None]


class _Waiter(ABC):
    """One that waits."""

    pending = False

    @abstractmethod
    def wake(self) -> None:
        """End the waiting; `Events` calls it under its lock."""


class ThreadWaiter(_Waiter):
    """Waits in a thread. Made by `Events`; owned by one thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wait(self, timeout_secs: float) -> bool:
        """Sleep until woken; return False when the time was over first."""
        woken = self._event.wait(timeout_secs)
        self._event.clear()
        self.pending = False
        return woken

    def wake(self) -> None:
        """See `Events`."""
        self._event.set()


class AsyncWaiter(_Waiter):
    """Waits in an event loop. Made by `Events`; owned by one task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def wait(self, timeout_secs: float) -> bool:
        """Sleep until woken; return False when the time was over first."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_secs)
        except TimeoutError:
            return False
        finally:
            self._event.clear()
            self.pending = False
        return True

    def wake(self) -> None:
        """See `Events`; any thread may call it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)


class Events:
    """Notifies waiters of jobs, of batches and of bests. Thread-safe.

    Call the notifying methods after the transaction that made the change. They reach other
    processes where a channel is connected; what comes from there goes to `receive`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, list[_Waiter]] = {}
        self._batch_listeners: list[BatchListener] = []
        self._best_listeners: list[tuple[BestListener, Callable[[], None]]] = []
        self._send: Callable[[str], None] | None = None
        self._closed = False

    def connect(self, send: Callable[[str], None]) -> None:
        """Pass notifications on to other processes: `send` gets each as a text, and may lose it."""
        self._send = send

    def job_changed(self, job_id: str) -> None:
        """Tell that a job was submitted or has ended, or has new records or a new best."""
        self._job_changed(job_id)
        self._pass_on(_JOB, job_id)

    def batch_ready(self, target_id: str) -> None:
        """Tell that one batch can be leased: wakes one waiting worker of its target.

        One, so that a fleet of idle workers does not rush to the database for each batch. Where no
        worker waits in this process, listeners and other processes are told.
        """
        if not self.wake_workers(target_id, 1):
            self._batches_ready(target_id)
            self._pass_on(_BATCH, target_id)

    def best_changed(self, workload_id: str, target_id: str) -> None:
        """Tell that a best was published, or set aside."""
        self._best_changed(workload_id, target_id)
        self._pass_on(_BEST, workload_id, target_id)

    def receive(self, text: str) -> None:
        """Tell this process what another one has sent.

        Equal texts may have become one on the way. Texts that are not understood are ignored: they
        may come from a newer version.
        """
        match text.split():
            case [kind, job_id] if kind == _JOB:
                self._job_changed(job_id)
            case [kind, target_id] if kind == _BATCH:
                self._batches_ready(target_id)
            case [kind, workload_id, target_id] if kind == _BEST:
                self._best_changed(workload_id, target_id)

    def missed(self) -> None:
        """Tell everyone once that anything may have changed: notifications were lost."""
        with self._lock:
            for topic, waiters in self._waiters.items():
                if not topic.startswith(_batches("")):
                    for waiter in waiters:
                        waiter.wake()
        for target_id in self.waiting_by_target():
            self._batches_ready(target_id)
        for _, forget_all in self._best_listeners:
            forget_all()

    def wake_workers(self, target_id: str, count: int) -> int:
        """Wake up to `count` workers of this process that wait for a target, and return how many.

        Whoever waited longest without being woken comes first. Those that were woken before and
        have not looked yet are not counted.
        """
        woken = 0
        with self._lock:
            waiters = self._waiters.get(_batches(target_id), [])
            for waiter in list(waiters):
                if woken == count:
                    break
                if not waiter.pending:
                    waiter.pending = True
                    waiter.wake()
                    # Others get the next turn: this one may not be given anything.
                    waiters.remove(waiter)
                    waiters.append(waiter)
                    woken += 1
        return woken

    def on_batches(self, listener: BatchListener) -> None:
        """Call a function with the id of a target that has batches for which nobody was woken.

        How many there are is for the listener to find out. It is called in any thread and must
        return at once.
        """
        self._batch_listeners.append(listener)

    def on_best(self, listener: BestListener, forget_all: Callable[[], None]) -> None:
        """Call a function with the ids of the workload and the target of each best that changes.

        It is called in any thread, before `best_changed` returns, and must return at once.
        `forget_all` is called where notifications were lost.
        """
        self._best_listeners.append((listener, forget_all))

    def close(self) -> None:
        """Wake everyone for good: `closed` is True from now on. Idempotent."""
        with self._lock:
            self._closed = True
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.wake()

    @property
    def closed(self) -> bool:
        """Whether the process is about to end, so that waiting should too."""
        return self._closed

    def waiting_workers(self) -> int:
        """How many workers wait for a batch now."""
        return sum(self.waiting_by_target().values())

    def waiting_by_target(self) -> dict[str, int]:
        """How many workers wait for a batch now, by the ids of their targets."""
        prefix = _batches("")
        with self._lock:
            return {
                topic.removeprefix(prefix): len(waiters)
                for topic, waiters in self._waiters.items()
                if topic.startswith(prefix)
            }

    @contextmanager
    def watch_jobs(self) -> Iterator[ThreadWaiter]:
        """Wait for changes of any job, in a thread."""
        waiter = ThreadWaiter()
        with self._watching(_ANY_JOB, waiter):
            yield waiter

    @contextmanager
    def watch_any_job(self) -> Iterator[AsyncWaiter]:
        """Wait for changes of any job, in an event loop."""
        waiter = AsyncWaiter()
        with self._watching(_ANY_JOB, waiter):
            yield waiter

    @contextmanager
    def watch_job(self, job_id: str) -> Iterator[AsyncWaiter]:
        """Wait for changes of one job, in an event loop."""
        waiter = AsyncWaiter()
        with self._watching(_job(job_id), waiter):
            yield waiter

    @contextmanager
    def watch_batches(self, target_id: str) -> Iterator[AsyncWaiter]:
        """Wait for batches of a target, in an event loop."""
        waiter = AsyncWaiter()
        try:
            with self._watching(_batches(target_id), waiter):
                yield waiter
        finally:
            if waiter.pending:
                # It was told of a batch and leaves without having looked: someone else should.
                self.batch_ready(target_id)

    def _job_changed(self, job_id: str) -> None:
        with self._lock:
            for topic in (_ANY_JOB, _job(job_id)):
                for waiter in self._waiters.get(topic, ()):
                    waiter.wake()

    def _batches_ready(self, target_id: str) -> None:
        for listener in self._batch_listeners:
            listener(target_id)

    def _best_changed(self, workload_id: str, target_id: str) -> None:
        for listener, _ in self._best_listeners:
            listener(workload_id, target_id)

    def _pass_on(self, kind: str, *ids: str) -> None:
        if self._send is not None:
            self._send(" ".join((kind, *ids)))

    @contextmanager
    def _watching(self, topic: str, waiter: _Waiter) -> Iterator[None]:
        with self._lock:
            self._waiters.setdefault(topic, []).append(waiter)
            if self._closed:
                waiter.wake()
        try:
            yield
        finally:
            with self._lock:
                waiters = self._waiters[topic]
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[topic]


def _job(job_id: str) -> str:
    return f"job:{job_id}"


def _batches(target_id: str) -> str:
    return f"batches:{target_id}"
