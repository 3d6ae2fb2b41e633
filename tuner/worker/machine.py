"""What a worker does next, as a state machine without I/O.

::

    registering --Registered--> checking --CheckTold--> idle --LeaseGranted--> measuring
         ^                      |      ^                 | ^                    |   |
         +------ Forgotten -----+------|-----------------+ +---- BatchEnded ----+   |
                                       +-- check is due -+                     stop, drain
                                                                                    v
    any but measuring --stop--> stopped <------ BatchEnded, second stop ------- draining
    any --Refused--> stopped

The daemon performs a plan, one `Action` after another, and hands what came of each back as an
`Event`; an event is answered with a new plan, or with None to go on with the present one. Times are
seconds on the daemon's monotonic clock.

A check runs the reference kernel and reports what came of it: after every registration, and when
the server's schedule says so, always between batches. A worker that the server quarantines for it
goes on as usual; it is leased nothing. A device without a reference kernel is not checked.
"""

from enum import StrEnum
from math import inf

from tuner.worker.steps import (
    Abandon,
    Action,
    BatchEnded,
    Check,
    Checked,
    CheckTold,
    Event,
    Exit,
    Forgotten,
    Heartbeat,
    HeartbeatTold,
    LeaseGranted,
    LeaseLost,
    Measured,
    MeasurerFailed,
    NextResult,
    NoWork,
    Plan,
    Poll,
    Post,
    Refused,
    Register,
    Registered,
    Release,
    ReportCheck,
    StartBatch,
    Uncheckable,
    Unreachable,
    Wait,
)

POST_EVERY_SECS = 1.0
"""Results are posted in groups this far apart: the device idles while they are."""

KEEP_FRACTION = 2 / 3
"""When so much of a lease has passed without a result, it is extended all the same."""

FIRST_WAIT_SECS = 0.5
LONGEST_WAIT_SECS = 5.0
"""A server that comes back is found so soon; a thousand workers then ask it 250 times a second."""
MEASURER_FAILURES = 3
"""After so many batches in a row that could not be measured, the worker gives up."""


class State(StrEnum):
    """Where the worker is."""

    REGISTERING = "registering"
    CHECKING = "checking"
    IDLE = "idle"
    MEASURING = "measuring"
    DRAINING = "draining"
    """Finishes its batch, then stops."""
    STOPPED = "stopped"


class WorkerMachine:
    """Decides what the worker does next.

    Parameters
    ----------
    max_batches : int or None
        Stop after so many.
    leave_when_idle : bool
        Stop when there is no work.
    """

    def __init__(self, *, max_batches: int | None = None, leave_when_idle: bool = False) -> None:
        self.state = State.REGISTERING
        self.batches_done = 0
        self._max_batches = max_batches
        self._leave_when_idle = leave_when_idle
        self._wait_secs = FIRST_WAIT_SECS
        self._measurer_failures = 0
        self._check_at = 0.0
        self._is_checked = False
        self._heartbeat_secs = 0.0
        self._ttl_secs = 0.0
        self.lease_until = 0.0
        """When the lease must be taken for lost if the server says nothing."""
        self._heartbeat_at = 0.0
        self._post_at = 0.0
        self._is_stored = True
        self._stops = 0

    def start(self) -> Plan:
        """Return the first actions.

        What an earlier run has measured is posted first: registering returns the rest of its batch
        to the queue, and someone else could measure again what only waits in the spool.
        """
        return (Post(), Register())

    def stop_requested(self) -> Plan | None:
        """Finish the batch first; asked a second time, give it back at once."""
        self._stops += 1
        if not self._is_measuring:
            return self._stop()
        if self._stops == 1:
            # The server may have told it to drain before.
            self.state = State.DRAINING
            return None
        return (Abandon(reason="the worker was told twice to stop"), *self._stop(release=True))

    def handle(self, event: Event, now: float) -> Plan | None:
        """Return the plan after an event; None: go on with the present one."""
        match event:
            case Refused():
                self.state = State.STOPPED
                return (Exit(reason=event.reason),)
            case Unreachable():
                return self._unreachable(event.retry_after_secs, now)
            case Forgotten():
                return self._forgotten()
            case Registered():
                self._heartbeat_secs = event.heartbeat_secs
                self._check_at = now
                return self._become_idle(now)
            case Checked() | CheckTold() | Uncheckable():
                return self._checked(event, now) if self.state is State.CHECKING else None
            case NoWork():
                return self._stop() if self._leave_when_idle else self._answered(now)
            case LeaseGranted():
                self._wait_secs = FIRST_WAIT_SECS
                self.state = State.MEASURING
                self._is_stored = True
                self._post_at = event.asked_at
                self._extend(event.ttl_secs, event.asked_at)
                return (StartBatch(), NextResult())
        return self._handle_measuring(event, now) if self._is_measuring else None

    def _handle_measuring(
        self,
        event: Measured | HeartbeatTold | LeaseLost | BatchEnded | MeasurerFailed,
        now: float,
    ) -> Plan | None:
        match event:
            case Measured():
                return self._measured(event, now)
            case HeartbeatTold():
                return self._told(event, now)
            case LeaseLost():
                return self._lost(event.reason, now)
            case BatchEnded():
                self.batches_done += 1
                return self._leave_batch(now)
            case MeasurerFailed():
                return self._measurer_failed(event.reason, now)

    @property
    def _is_measuring(self) -> bool:
        return self.state in (State.MEASURING, State.DRAINING)

    @property
    def keep_at(self) -> float:
        """When the lease must be extended even if no result has come."""
        return self.lease_until - self._ttl_secs * (1 - KEEP_FRACTION)

    # --- without a batch -------------------------------------------------------------------------

    def _answered(self, now: float) -> Plan:
        self._wait_secs = FIRST_WAIT_SECS
        return self._become_idle(now)

    def _become_idle(self, now: float) -> Plan:
        # What was measured before a check is at the server before the check's verdict.
        if now >= self._check_at:
            self.state = State.CHECKING
            self._is_checked = False
            return (Post(), Check())
        self.state = State.IDLE
        return (Post(), Poll())

    def _checked(self, event: Checked | CheckTold | Uncheckable, now: float) -> Plan:
        if isinstance(event, Checked):
            self._is_checked = True
            return (ReportCheck(),)
        self._check_at = inf if isinstance(event, Uncheckable) else now + event.check_secs
        return self._answered(now)

    def _stop(self, *, release: bool = False) -> Plan:
        self.state = State.STOPPED
        return (Post(), *((Release(),) if release else ()), Exit())

    def _forgotten(self) -> Plan:
        self.state = State.REGISTERING
        return (*self._wait(), Register())

    def _unreachable(self, retry_after_secs: float, now: float) -> Plan | None:
        if self._is_measuring:
            return self._unreachable_measuring(retry_after_secs, now)
        if self.state is State.REGISTERING:
            return (*self._wait(retry_after_secs), Post(), Register())
        if self.state is State.CHECKING and self._is_checked:
            return (*self._wait(retry_after_secs), ReportCheck())
        if self.state is State.STOPPED:
            return None
        return (*self._wait(retry_after_secs), *self._become_idle(now))

    def _wait(self, at_least_secs: float = 0.0) -> Plan:
        secs = self._wait_secs
        self._wait_secs = min(2 * secs, LONGEST_WAIT_SECS)
        return (Wait(secs=secs, at_least_secs=at_least_secs),)

    # --- with a batch ----------------------------------------------------------------------------

    def _extend(self, ttl_secs: float, asked_at: float) -> None:
        # The server's clock started somewhere between asking and the answer: the earlier is safe.
        self._ttl_secs = ttl_secs
        self.lease_until = asked_at + ttl_secs
        self._heartbeat_at = asked_at + min(self._heartbeat_secs or ttl_secs, ttl_secs / 3)

    def _measured(self, event: Measured, now: float) -> Plan:
        self._measurer_failures = 0
        self._is_stored = event.stored
        if event.left == 0:
            # The end of the batch posts it, and that ends the lease.
            return (NextResult(),)
        if now >= self.lease_until:
            # As after a time in which the whole process was stopped.
            return self._lost("it ran out", now)
        actions: list[Action] = []
        if now >= self._post_at + POST_EVERY_SECS or not event.stored:
            self._post_at = now
            actions.append(Post())
        if now >= self._heartbeat_at:
            actions.append(Heartbeat())
        return (*actions, NextResult())

    def _told(self, event: HeartbeatTold, now: float) -> Plan | None:
        self._extend(event.ttl_secs, event.asked_at)
        if event.command == "cancel":
            reason = "the job is cancelled"
            return (Abandon(reason=reason), Post(), Release(), *self._leave_batch(now))
        if event.command == "drain":
            self.state = State.DRAINING
        return None

    def _lost(self, reason: str, now: float) -> Plan:
        return (Abandon(reason=f"the lease is lost, {reason}"), *self._leave_batch(now))

    def _unreachable_measuring(self, retry_after_secs: float, now: float) -> Plan | None:
        if now >= self.lease_until:
            return self._lost("it ran out while the server did not answer", now)
        if not self._is_stored:
            return self._lost("as results can be neither stored nor posted", now)
        # Measuring goes on: the spool keeps the results, and a later heartbeat may get through.
        patience_secs = min(self._heartbeat_secs or self._ttl_secs, 5.0)
        self._heartbeat_at = now + max(patience_secs, retry_after_secs)
        self._post_at = max(self._post_at, now + retry_after_secs - POST_EVERY_SECS)
        return None

    def _measurer_failed(self, reason: str, now: float) -> Plan:
        self._measurer_failures += 1
        if self._measurer_failures >= MEASURER_FAILURES:
            self.state = State.STOPPED
            return (Post(), Release(), Exit(reason=f"this machine cannot measure: {reason}"))
        after = self._leave_batch(now)
        wait = () if self.state is State.STOPPED else self._wait()
        return (Post(), Release(), *wait, *after)

    def _leave_batch(self, now: float) -> Plan:
        done = self._max_batches is not None and self.batches_done >= self._max_batches
        if self.state is State.DRAINING or done:
            return self._stop()
        return self._become_idle(now)
