"""The worker daemon: performs what the machine plans. It never imports TVM."""

import hashlib
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from schedules.errors import InputError, UnavailableError
from schedules.records import PROTOCOL_VERSION, Failure, FailureKind, MeasureResult
from schedules.runtimes import latency
from schedules.target import Target
from tuner import logs
from tuner.client import convert, wire
from tuner.client.http import Connection
from tuner.jitter import jitter
from tuner.measure.protocol import DeviceMeasurer, MeasureBatch
from tuner.worker import steps
from tuner.worker.api import ANSWER_SECS, WorkerApi
from tuner.worker.devices import WHOLE_CPU, Device
from tuner.worker.keeper import LeaseKeeper
from tuner.worker.lock import DeviceLock
from tuner.worker.machine import State, WorkerMachine
from tuner.worker.outbox import post_spool
from tuner.worker.spool import Spool, SpooledResult

logger = logging.getLogger(__name__)

POLL_SECS = 20.0


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker is told when it starts.

    Attributes
    ----------
    name : str
        Unique on the server.
    state_dir : Path
        For the spool and the device's lock.
    device : Device
        Which device of this machine it owns.
    max_batches : int or None
        Leave after so many.
    leave_when_idle : bool
        Leave when there is no work.
    poll_secs : float
        How long the server may hold a request for work.
    """

    name: str
    state_dir: Path
    device: Device = WHOLE_CPU
    max_batches: int | None = None
    leave_when_idle: bool = False
    poll_secs: float = POLL_SECS


class _StopRequested(BaseException):
    """Raised by the signal handler out of a call that would block for long."""


class WorkerDaemon:
    """One worker: owns a device, and measures what the server leases to it.

    Parameters
    ----------
    connection : Connection
        To the server; stays the caller's to close.
    measurer : DeviceMeasurer
        Stays the caller's to close.
    config : WorkerConfig
        The rest.
    """

    def __init__(
        self, connection: Connection, measurer: DeviceMeasurer, config: WorkerConfig
    ) -> None:
        self._api = WorkerApi(connection)
        self._measurer = measurer
        self._config = config
        self._machine = WorkerMachine(
            max_batches=config.max_batches, leave_when_idle=config.leave_when_idle
        )
        self._environment: dict[str, str | int] = {}
        self._lease: wire.LeaseAnswer | None = None
        self._results: Iterator[tuple[int, MeasureResult]] | None = None
        self._unmeasured = 0
        self._check: wire.CheckRequest | None = None
        self._quarantined: str | None = None
        # A queue of this kind may be put into by a signal handler that another one interrupts.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._stops_asked = 0
        self._stops_seen = 0
        self._raise_at: int | None = None
        self._performers: dict[type[steps.Action], Callable[[Any], tuple[steps.Event, ...]]] = {
            steps.Register: self._register,
            steps.Check: self._run_check,
            steps.ReportCheck: self._report_check,
            steps.Poll: self._poll,
            steps.StartBatch: self._start_batch,
            steps.NextResult: self._next_result,
            steps.Post: self._post,
            steps.Heartbeat: self._heartbeat,
            steps.Abandon: self._abandon,
            steps.Release: self._release,
            steps.Wait: self._wait,
        }

    def run(self, *, signals: bool = True) -> None:
        """Work until told to stop.

        Parameters
        ----------
        signals : bool
            Whether SIGTERM and SIGINT stop it, which is only possible in a main thread. The first
            lets it finish and report its batch, the second makes it give the batch back at once.

        Raises
        ------
        ConflictError
            Another daemon owns the device.
        UnavailableError
            The server refuses this worker, or the machine cannot measure; the message says why.
        """
        with DeviceLock(self._config.state_dir, self._config.device), logs.identified():
            self._spool = Spool(self._config.state_dir / self._spool_name())
            handlers = self._handle_signals() if signals else {}
            try:
                self._work()
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                self._close_results()

    def request_stop(self) -> None:
        """Finish the batch and leave; called a second time, leave at the next result."""
        # More than two say nothing new.
        self._stops_asked = min(self._stops_asked + 1, 2)
        self._wake.put(None)

    # --- the loop --------------------------------------------------------------------------------

    def _work(self) -> None:
        plan = deque(self._machine.start())
        while True:
            while self._stops_asked > self._stops_seen:
                self._stops_seen += 1
                logger.info("told to stop while %s", self._machine.state)
                plan = _next_plan(plan, self._machine.stop_requested())
            action = plan.popleft()
            if isinstance(action, steps.Exit):
                self._leave(action.reason)
                return
            try:
                events = self._performers[type(action)](action)
            except _StopRequested:
                continue
            for event in events:
                plan = _next_plan(plan, self._machine.handle(event, time.monotonic()))

    def _leave(self, reason: str | None) -> None:
        if len(self._spool) and self._spool.is_durable:
            logger.warning(
                "%d results could not be posted yet; the next start of this worker does it",
                len(self._spool),
            )
        elif len(self._spool):
            logger.error(
                "up to %d results could be neither posted nor written to the disk: they are lost, "
                "and their candidates are measured again",
                len(self._spool),
            )
        if reason is not None:
            raise UnavailableError(reason)
        logger.info("left after %d batches", self._machine.batches_done)

    # --- actions ---------------------------------------------------------------------------------

    def _register(self, action: steps.Register) -> tuple[steps.Event, ...]:
        with self._interruptible(1):
            try:
                target, environment = self._measurer.describe()
            except UnavailableError as error:
                return (steps.Refused(reason=f"this machine cannot measure: {error}"),)
            self._environment = dict(environment.facts)
            return (self._api.register(self._config.name, target, environment),)

    def _run_check(self, action: steps.Check) -> tuple[steps.Event, ...]:
        with self._interruptible(1):
            try:
                result = self._measurer.reference()
            except UnavailableError as error:
                failed = Failure(kind=FailureKind.RUN_ERROR, detail=str(error))
                result = MeasureResult(failure=failed)
        if result is None:
            return (steps.Uncheckable(),)
        failure = f"{result.failure.kind}: {result.failure.detail}" if result.failure else None
        if failure is not None:
            logger.warning("the reference kernel could not be measured: %s", failure)
        self._check = wire.CheckRequest(
            boot_id=_boot_id(), run_secs=list(result.run_secs), failure=failure
        )
        return (steps.Checked(),)

    def _report_check(self, action: steps.ReportCheck) -> tuple[steps.Event, ...]:
        assert self._check is not None
        with self._interruptible(1):
            event, told = self._api.check(self._check)
        if told is not None and told.quarantined != self._quarantined:
            self._quarantined = told.quarantined
            self._log_quarantine(self._check)
        return (event,)

    def _log_quarantine(self, check: wire.CheckRequest) -> None:
        if self._quarantined is None:
            logger.info("the server leases to this worker again")
            return
        logger.warning(
            "the server leases nothing to this worker: %s (last check: %s). Look for what else "
            "runs on the machine, its clocks and its cooling; an operator ends it with "
            "`tunesmith clear %s`",
            self._quarantined,
            check.failure or f"latency {latency(check.run_secs) * 1e3:.4g} ms",
            self._config.name,
        )

    def _poll(self, action: steps.Poll) -> tuple[steps.Event, ...]:
        # A lease that is granted in the moment of an interrupt ends by its time to live.
        with self._interruptible(1):
            event, lease = self._api.lease(self._config.poll_secs)
        if lease is None:
            logs.identify(lease_id=None, job_id=None)
        else:
            self._lease = lease
            logs.identify(lease_id=lease.lease_id, job_id=lease.job_id)
            logger.info(
                "leased %d candidates of %s (%s of job %s)",
                len(lease.items),
                lease.workload.name,
                lease.purpose,
                lease.job_id,
            )
        return (event,)

    def _start_batch(self, action: steps.StartBatch) -> tuple[steps.Event, ...]:
        lease = self._present_lease()
        try:
            batch = MeasureBatch(
                workload=convert.workload_from_wire(lease.workload),
                target=Target.parse(lease.target),
                candidates=tuple(
                    convert.candidate_from_wire(item.candidate) for item in lease.items
                ),
                purpose=lease.purpose,
                incumbent_secs=lease.incumbent_secs,
            )
        except InputError as error:
            return (steps.MeasurerFailed(reason=f"lease {lease.lease_id}: {error}"),)
        self._unmeasured = len(batch.candidates)
        self._results = iter(self._measurer.measure(batch))
        return ()

    def _next_result(self, action: steps.NextResult) -> tuple[steps.Event, ...]:
        lease = self._present_lease()
        assert self._results is not None
        keeper = LeaseKeeper(
            lambda left_secs: self._api.heartbeat(lease, min(left_secs, ANSWER_SECS)),
            self._measurer.interrupt,
            due_at=self._machine.keep_at,
            lease_until=self._machine.lease_until,
        )
        try:
            with keeper, self._interruptible(2):
                place, result = next(self._results)
        except StopIteration:
            logger.info("measured %d candidates", len(lease.items) - self._unmeasured)
            self._close_results()
            return (*keeper.events, steps.BatchEnded())
        except UnavailableError as error:
            logger.error("the batch cannot be measured: %s", error)
            self._close_results()
            return (*keeper.events, steps.MeasurerFailed(reason=str(error)))
        self._unmeasured -= 1
        reported = wire.ReportedResult(
            item_id=lease.items[place].item_id, result=convert.result_to_wire(result)
        )
        request = wire.ResultsRequest(
            epoch=lease.epoch,
            worker_id=self._api.worker_id,
            environment=self._environment,
            protocol_version=PROTOCOL_VERSION,
            results=[reported],
        )
        stored = self._spool.add(SpooledResult(lease_id=lease.lease_id, request=request))
        return (*keeper.events, steps.Measured(left=self._unmeasured, stored=stored))

    def _post(self, action: steps.Post) -> tuple[steps.Event, ...]:
        last = self._machine.state is State.STOPPED
        event, closed = post_spool(self._spool, self._api, retry=last)
        if event is not None:
            return (event,)
        # The last results of a batch close its lease too.
        measuring = self._results is not None and self._unmeasured > 0
        lost = measuring and self._present_lease().lease_id in closed
        return (steps.LeaseLost(reason="the server has ended it"),) if lost else ()

    def _heartbeat(self, action: steps.Heartbeat) -> tuple[steps.Event, ...]:
        return (self._api.heartbeat(self._present_lease()),)

    def _abandon(self, action: steps.Abandon) -> tuple[steps.Event, ...]:
        logger.warning("%s: %d candidates are not measured", action.reason, self._unmeasured)
        self._close_results()
        return ()

    def _release(self, action: steps.Release) -> tuple[steps.Event, ...]:
        self._api.release(self._present_lease())
        return ()

    def _wait(self, action: steps.Wait) -> tuple[steps.Event, ...]:
        with self._interruptible(1), suppress(Empty):
            self._wake.get(timeout=action.at_least_secs + action.secs * jitter(0.5, 1.0))
        return ()

    # --- helpers ---------------------------------------------------------------------------------

    def _present_lease(self) -> wire.LeaseAnswer:
        assert self._lease is not None
        return self._lease

    def _close_results(self) -> None:
        results, self._results = self._results, None
        close = getattr(results, "close", None)
        if close is not None:
            close()

    def _spool_name(self) -> str:
        # Results belong to the server that leased their items.
        server = hashlib.sha256(self._api.server.encode()).hexdigest()[:16]
        return f"spool-{self._config.device.file_name}-{server}.jsonl"

    @contextmanager
    def _interruptible(self, stops: int) -> Iterator[None]:
        """Let the signal that makes it `stops` requests end a call that blocks for long."""
        self._raise_at = stops
        try:
            if self._stops_asked > self._stops_seen and self._stops_asked >= stops:
                raise _StopRequested
            yield
        finally:
            self._raise_at = None

    def _handle_signals(self) -> dict[int, Any]:
        def handle(number: int, frame: FrameType | None) -> None:
            self.request_stop()
            if self._raise_at is not None and self._stops_asked >= self._raise_at:
                # Once: the next signal may come while this one unwinds.
                self._raise_at = None
                raise _StopRequested

        return {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _next_plan(plan: deque[steps.Action], new: steps.Plan | None) -> deque[steps.Action]:
    return plan if new is None else deque(new)
