"""The loop that runs jobs: it asks searches for candidates and queues them for workers.

All state is in the database, so any orchestrator can take a job's next step after a crash. A job is
held only while its step is taken: the search runs, or its finals are weighed. While its batch is
measured it is nobody's. What is kept here, the futures of running search steps, is lost with the
process and asked for again.
"""

import logging
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from schedules.errors import ConflictError, TunesmithError, UnavailableError
from schedules.records import Candidate, Purpose, TuningRecord
from schedules.workload import Workload
from service.compute import Proposed, StepPool
from service.db.model_values import ModelFile
from service.db.store import Store
from service.db.values import Claim, Job, JobPhase
from service.events import Events
from tuner import logs
from tuner.client import convert
from tuner.learning.neighbours import find_neighbours
from tuner.publish import choose_best, select_finalists
from tuner.search.gain import worth_of_another_batch
from tuner.search.step import StepRequest, TrialWire
from tuner.session import BATCH_SIZE

logger = logging.getLogger(__name__)

TICK_SECS = 0.5
TICK_AT_MOST_SECS = 1.0
"""After so long a tick takes no more jobs: overdue leases and ended searches wait for the next."""
PAUSE_SECS = 0.25
"""A busy fleet wakes the loop all the time: it rests as long as it worked, but no longer than this,
and takes together what has happened meanwhile."""
OWNER_TTL_SECS = 20.0
SEARCH_ATTEMPTS = 3
STEPS_PER_PROCESS = 2
"""Searches under way for each process of the pool, so that none of them has to wait for a tick."""
CLAIMS_AT_ONCE = 8
"""So many jobs are taken at a time; each has to be begun before its hold runs out."""
READY_PER_WORKER = 2
"""Batches that may wait for each worker; more would only be older when they are measured."""


@dataclass
class _Step:
    """A job's step that is being taken here."""

    claim: Claim
    trials: tuple[TuningRecord, ...]
    future: Future[Proposed]
    attempts: int = 1


class Orchestrator:
    """Takes the steps of a store's jobs; several may share one store.

    Parameters
    ----------
    store : Store
        Holds jobs, batches and records.
    events : Events
        Wakes this loop, and workers that wait for batches.
    pool : StepPool
        Runs search steps; closed by `stop`.
    processes : int
        How many search steps the pool runs at once.
    quiet : bool
        Whether nothing may be searched while something is measured, because the machine that
        searches also measures. Jobs then take their turns one batch at a time.
    owner : str or None
        Name under which jobs are held; one of its own by default. A process that has the database
        to itself gives a fixed one, so that its successor need not wait for the holds to expire.
    on_end : callable (str) -> None, or None
        Told of each job that ends here; must not block or raise.
    """

    def __init__(
        self,
        *,
        store: Store,
        events: Events,
        pool: StepPool,
        processes: int = 1,
        quiet: bool = True,
        owner: str | None = None,
        on_end: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._events = events
        self._pool = pool
        self._threads_per_step = max(1, len(os.sched_getaffinity(0)) // processes)
        self._steps_at_once = processes if quiet else STEPS_PER_PROCESS * processes
        self._quiet = quiet
        self._owner = owner or uuid.uuid4().hex
        self._on_end = on_end
        self._steps: dict[str, _Step] = {}
        self._renewed_at = float("-inf")
        self._base: tuple[str, bytes | None] = ("", None)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="orchestrator")

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the loop and hand the jobs to others. Idempotent."""
        self._stopping.set()
        self._pool.close()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        self._let_go()
        with self._events.watch_jobs() as waiter:
            while not self._stopping.is_set():
                more, started = False, time.monotonic()
                try:
                    more = self.tick()
                except UnavailableError as error:
                    logger.warning("jobs have to wait: %s", error)
                except Exception:
                    logger.exception("an orchestrator tick failed; trying again")
                self._stopping.wait(min(time.monotonic() - started, PAUSE_SECS))
                waiter.wait(0.0 if more else TICK_SECS)
        self._let_go()

    def _let_go(self) -> None:
        """Give up all holds: at the end for others, at the start what a predecessor held."""
        try:
            self._store.release_jobs(self._owner)
        except TunesmithError as error:
            logger.warning("jobs could not be handed over: %s", error)

    def tick(self) -> bool:
        """Take the steps that can be taken now; tell whether time was too short for all of them."""
        started = time.monotonic()
        self._store.expire_leases()
        for worker_id in self._store.judge_workers():
            logger.warning(
                "Worker %s is quarantined",
                worker_id,
                extra={"action": "quarantine_worker", "worker_id": worker_id},
            )
        self._renew()
        for step in list(self._steps.values()):
            if step.future.done():
                self._take(step.claim, self._collect)
                self._renew()
        while claims := self._claim():
            for claim in claims:
                self._take(claim, self._begin)
                self._renew()
            if time.monotonic() - started > TICK_AT_MOST_SECS:
                return True
        return False

    def _renew(self) -> None:
        """Keep the steps' jobs, also where a slow database makes one tick as long as a hold."""
        if self._steps and time.monotonic() - self._renewed_at > OWNER_TTL_SECS / 10:
            self._store.renew_jobs(self._owner, OWNER_TTL_SECS, self._steps)
            self._renewed_at = time.monotonic()

    def _claim(self) -> tuple[Claim, ...]:
        """Take jobs for as many steps as there is room for."""
        workers = self._store.measuring_workers()
        free = self._steps_at_once - len(self._steps)
        if self._quiet:
            free -= self._store.measuring_jobs(workers)
            targets = set(workers)
        else:
            room = self._room(workers)
            free = min(free, sum(room.values()))
            targets = set(room)
        if free <= 0 or not targets:
            return ()
        return self._store.claim_jobs(
            self._owner, OWNER_TTL_SECS, limit=min(free, CLAIMS_AT_ONCE), target_ids=targets
        )

    def _room(self, workers: Mapping[str, int]) -> dict[str, int]:
        """Count the batches that may still be queued, by target; full ones are left out."""
        waiting = Counter(self._store.backlog())
        waiting.update(step.claim.job.spec.target_id for step in self._steps.values())
        room = {
            target_id: READY_PER_WORKER * count - waiting[target_id]
            for target_id, count in workers.items()
        }
        return {target_id: batches for target_id, batches in room.items() if batches > 0}

    def _take(self, claim: Claim, act: Callable[[Claim], bool]) -> None:
        """Act on a job that is held here, and let it go unless its step goes on."""
        job_id = claim.job.job_id
        try:
            with logs.identified(job_id=job_id):
                goes_on = act(claim)
        except ConflictError as error:
            # Another orchestrator took the job, it was cancelled, or its budget was raised.
            logger.info("job %s is no longer ours: %s", job_id, error, extra={"job_id": job_id})
            goes_on = False
        except BaseException:
            # Nobody renews it any more, so the hold ends by itself.
            self._steps.pop(job_id, None)
            raise
        if not goes_on:
            self._steps.pop(job_id, None)
            self._store.release_jobs(self._owner, job_id)

    def _begin(self, claim: Claim) -> bool:
        if claim.job.phase is JobPhase.FINAL:
            return self._finish(claim.job)
        if _spent(claim):
            return self._queue_finals(claim.job)
        trials, spec = self._trials(claim.job), claim.job.spec
        if spec.budget_id is not None and claim.job.worth_secs is None:
            # Now that it is known, another job of the same budget may be the one to go on.
            worth_secs = worth_of_another_batch(trials, spec.weight)
            self._store.appraise(claim.job.job_id, self._owner, worth_secs)
            return False
        self._steps[claim.job.job_id] = _Step(
            claim=claim, trials=trials, future=self._search(claim, trials)
        )
        return True

    def _search(self, claim: Claim, trials: Sequence[TuningRecord]) -> Future[Proposed]:
        future = self._pool.submit(self._request(claim, trials))
        # The loop sleeps until something happens; this is something.
        future.add_done_callback(lambda _: self._events.job_changed(claim.job.job_id))
        return future

    def _collect(self, claim: Claim) -> bool:
        job, step = claim.job, self._steps[claim.job.job_id]
        try:
            proposed = step.future.result()
        except (BrokenProcessPool, CancelledError) as error:
            return self._search_again(step, error)
        except Exception as error:
            logger.exception("the search of job %s failed", job.job_id)
            return self._end(job, f"the search failed: {type(error).__name__}: {error}")
        if not proposed:
            # The space has no more to offer.
            return self._queue_finals(job)
        candidates = [convert.candidate_from_wire(item) for item in proposed]
        return self._queue(job, Purpose.TRIAL, candidates, step.trials)

    def _search_again(self, step: _Step, error: BaseException) -> bool:
        if self._stopping.is_set():
            return False
        logger.warning("a search step of job %s died (%s)", step.claim.job.job_id, error)
        if step.attempts >= SEARCH_ATTEMPTS:
            reason = f"the search process died {step.attempts} times: {error}"
            return self._end(step.claim.job, reason)
        step.attempts += 1
        step.future = self._search(step.claim, step.trials)
        return True

    def _request(self, claim: Claim, trials: Sequence[TuningRecord]) -> StepRequest:
        job, spec = claim.job, claim.job.spec
        left = BATCH_SIZE if claim.trials_left is None else claim.trials_left
        workload = self._store.workload(spec.workload_id)
        return StepRequest(
            search_id=job.job_id,
            workload=convert.workload_to_wire(workload),
            target=self._store.target(spec.target_id).as_dict(),
            space=spec.space,
            seed=_seed(job),
            trials=tuple(
                TrialWire(
                    candidate=convert.candidate_to_wire(record.candidate),
                    result=convert.result_to_wire(record.result),
                )
                for record in trials
            ),
            count=min(BATCH_SIZE, left),
            threads=self._threads_per_step,
            least_gain=spec.least_gain,
            # A search that has begun has measured them, or something better.
            neighbours=() if trials else self._neighbours(workload, spec.target_id),
            base_model=self._base_model(),
        )

    def _neighbours(self, workload: Workload, target_id: str) -> tuple[str, ...]:
        """Return the traces of the bests of the nearest other shapes."""
        return tuple(best.trace for _, best in find_neighbours(self._store, workload, target_id))

    def _base_model(self) -> bytes | None:
        """Return the file of the version in use, which is read when another one comes into use."""
        version = self._store.promoted_model()
        if version is None:
            return None
        if version != self._base[0]:
            self._base = version, self._store.model_file(version, ModelFile.CONTENT)
        return self._base[1]

    def _queue(
        self,
        job: Job,
        purpose: Purpose,
        candidates: list[Candidate],
        trials: Sequence[TuningRecord],
    ) -> bool:
        latencies = [item.result.latency_secs for item in trials]
        self._store.enqueue_batch(
            job.job_id,
            self._owner,
            purpose=purpose,
            candidates=candidates,
            incumbent_secs=min((secs for secs in latencies if secs is not None), default=None),
        )
        self._events.batch_ready(job.spec.target_id)
        return False

    def _trials(self, job: Job) -> tuple[TuningRecord, ...]:
        return self._store.trials(job.spec.workload_id, job.spec.target_id)

    def _queue_finals(self, job: Job) -> bool:
        spec, trials = job.spec, self._trials(job)
        finalists = select_finalists(trials, self._store.best(spec.workload_id, spec.target_id))
        self._store.begin_finals(job, self._owner)
        return self._queue(job, Purpose.FINAL, finalists, trials)

    def _finish(self, job: Job) -> bool:
        finals = self._store.finals(job.job_id)
        if not finals:
            return self._queue_finals(job)
        best = choose_best(finals, self._trials(job))
        if best is None:
            reasons = {item.result.failure.detail for item in finals if item.result.failure}
            return self._end(
                job, f"no candidate passed its check: {'; '.join(sorted(reasons))[:500]}"
            )
        self._store.publish(best, self._owner, job.job_id)
        self._events.best_changed(best.workload_id, best.target_id)
        return self._end(job)

    def _end(self, job: Job, error: str | None = None) -> bool:
        self._store.finish_job(job.job_id, self._owner, error=error)
        self._events.job_changed(job.job_id)
        if self._on_end is not None:
            self._on_end(job.job_id)
        return False


def _spent(claim: Claim) -> bool:
    if claim.trials_left is not None and claim.trials_left <= 0:
        return True
    seconds = claim.job.spec.seconds
    return seconds is not None and claim.elapsed_secs >= seconds


def _seed(job: Job) -> int:
    """Return the job's seed, or one that follows from its id, so that restarts agree on it."""
    if job.spec.seed is not None:
        return job.spec.seed
    return int.from_bytes(job.job_id.encode()[-4:], "big") % 2**31
