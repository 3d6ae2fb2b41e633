"""Keeps a lease while one candidate takes long."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tuner.worker import steps
from tuner.worker.machine import KEEP_FRACTION

_AGAIN_SECS = 2.0


class LeaseKeeper:
    """Extends a lease that would otherwise end before the next result.

    Heartbeats take a moment of a core from what is being timed, so they are sent between candidates
    where possible. Only when a lease is about to run out, in a long build or a slow final, is one
    sent during a measurement: a lost lease would cost the whole batch. A lease that is over, or
    whose end has come without an answer of the server, interrupts the measurement.

    Parameters
    ----------
    beat : callable (answer_secs) -> Event
        Sends a heartbeat that the server has so many seconds to answer; called in a thread of the
        keeper.
    interrupt : callable ()
        Ends the measurement; called in that thread.
    due_at, lease_until : float
        When to send the first heartbeat, and when the lease ends, on the monotonic clock.

    Attributes
    ----------
    events : list of Event
        What came of the heartbeats that were needed; to be read after the scope has ended.
    """

    def __init__(
        self,
        beat: Callable[[float], steps.Event],
        interrupt: Callable[[], None],
        *,
        due_at: float,
        lease_until: float,
    ) -> None:
        self.events: list[steps.Event] = []
        self._beat = beat
        self._interrupt = interrupt
        self._due_at = due_at
        self._lease_until = lease_until
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._ended.wait(max(0.0, self._due_at - time.monotonic())):
            left_secs = self._lease_until - time.monotonic()
            if left_secs <= 0:
                event: steps.Event = steps.LeaseLost(reason="it ran out without an answer")
            else:
                event = self._beat(left_secs)
            self.events.append(event)
            match event:
                case steps.HeartbeatTold(command="continue" | "drain"):
                    self._due_at = event.asked_at + event.ttl_secs * KEEP_FRACTION
                    self._lease_until = event.asked_at + event.ttl_secs
                case steps.Unreachable():
                    again_at = time.monotonic() + max(_AGAIN_SECS, event.retry_after_secs)
                    self._due_at = min(again_at, self._lease_until)
                case _:
                    self._interrupt()
                    return
