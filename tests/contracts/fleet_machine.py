"""Random steps of a small fleet, and what has to hold after each of them.

The rules are grouped by whose steps they are.
"""

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from schedules.records import Purpose
from service.db.engine import Database
from service.db.health import BAD_CHECKS, GOOD_CHECKS
from service.db.values import Command, JobPhase
from tests.contracts import fleet_model as model
from tests.contracts.fleet_state import NAMES, TICK_SECS, FleetState
from tests.contracts.store_values import ENVIRONMENT, TTL, best, candidates, measured, spec, worker

OWNERS = ("one", "two", "three")
OWNER_TTL = 20.0
WAITS = (1.0, 1.0, 1.0, OWNER_TTL - 1, OWNER_TTL, TTL - 1, TTL, 1000.0)


class Fleet(FleetState):
    """Three workers, three orchestrators and those who submit jobs."""

    @initialize()
    def start(self) -> None:
        self.set_up()
        for number in (0, 1):
            self.submit(number, 8, None)
            self.claim(OWNERS[0])

    # --- those who submit ------------------------------------------------------------------------

    @rule(
        number=st.integers(0, 2),
        trials=st.sampled_from((8, 16)),
        key=st.sampled_from((None, None, "key", "other key")),
    )
    def submit(self, number: int, trials: int, key: str | None) -> None:
        asked = spec(seed=number, trials=trials)
        if key in self.keys and self.keys[key][:2] != (number, trials):
            model.refused(self.store.submit_job, asked, idempotency_key=key)
            return
        told, created = self.store.submit_job(asked, idempotency_key=key)
        equal = [job for job in self.jobs if job.active and job.seed == number]
        if key in self.keys:
            job = self.keys[key][2]
            assert not created
        elif equal:
            (job,) = equal
            assert not created
            if trials > job.trials:
                job.trials, job.phase = trials, JobPhase.SEARCH
        else:
            job = model.KnownJob(told.job_id, number, trials)
            self.jobs.append(job)
            assert created
        if key is not None:
            self.keys[key] = (number, trials, job)
        assert (told.job_id, told.spec.trials) == (job.job_id, job.trials)
        assert (told.phase, told.state.active) == (job.phase, job.active)

    # --- orchestrators ---------------------------------------------------------------------------

    @rule(owner=st.sampled_from(OWNERS))
    def claim(self, owner: str) -> None:
        measuring = self.database.read(model.measuring)
        free = {
            job.job_id: job
            for job in self.jobs
            if job.active and not self._is_held(job) and job.job_id not in measuring
        }
        told = self.store.claim_jobs(owner, OWNER_TTL)
        assert bool(told) == bool(free)
        for claim in told:
            job = free[claim.job.job_id]
            job.owner, job.owner_until = owner, self._in(OWNER_TTL)

    @rule(count=st.integers(1, 3), final=st.booleans())
    def work_comes(self, count: int, final: bool) -> None:
        """Queue a batch for each job that somebody can take a step for, and lease them."""
        if not any(job.active for job in self.jobs):
            self.submit(0, 8, None)
        for owner in OWNERS:
            self.claim(owner)
        for job in self.jobs:
            if job.active and self._is_held(job):
                self._step(job.job_id, job.owner, "finals" if final else "trials", count)
        self.all_lease()

    @rule(owner=st.sampled_from(OWNERS), renew=st.booleans())
    def keep_claims(self, owner: str, renew: bool) -> None:
        """Renew or give up what an owner holds."""
        if not renew:
            self.store.release_jobs(owner)
            for job in self.jobs:
                if job.owner == owner:
                    job.owner = ""
            return
        self.store.renew_jobs(owner, OWNER_TTL, [job.job_id for job in self.jobs])
        for job in self.jobs:
            if job.active and job.owner == owner and self._is_held(job):
                job.owner_until = self._in(OWNER_TTL)

    @rule(
        index=st.integers(0, 5),
        owner=st.sampled_from((None, None, *OWNERS)),
        step=st.sampled_from(("trials", "phase", "publish", "done", "failed", "cancel")),
        count=st.integers(1, 3),
    )
    def orchestrate(self, index: int, owner: str | None, step: str, count: int) -> None:
        """Take a step for a job, as its owner (None) or as one who may have lost it long ago."""
        job = self.jobs[index % len(self.jobs)]
        if step == "cancel":
            # Anybody may.
            assert not self.store.cancel_job(job.job_id).state.active
            self._end(job)
            return
        acts = owner or job.owner or OWNERS[0]
        take = (job.job_id, acts, step, count)
        may = job.active and job.owner == acts and self._is_held(job)
        if not may or (step == "done" and job.phase is not JobPhase.FINAL):
            before = self.database.read(model.committed)
            model.refused(self._step, *take)
            assert self.database.read(model.committed) == before
            return
        self._step(*take)
        if step == "phase":
            job.phase = JobPhase.FINAL
        elif step in ("done", "failed"):
            self._end(job)

    def _step(self, job_id: str, owner: str, step: str, count: int) -> None:
        store = self.store
        if step == "phase":
            store.begin_finals(store.job(job_id), owner)
        elif step == "publish":
            store.publish(best(1.0 / (1 + len(self.leases))), owner, job_id)
        elif step in ("done", "failed"):
            store.finish_job(job_id, owner, error="it broke" if step == "failed" else None)
        else:
            purpose = Purpose.FINAL if step == "finals" else Purpose.TRIAL
            store.enqueue_batch(
                job_id, owner, purpose=purpose, candidates=candidates(count), incumbent_secs=None
            )

    # --- workers ---------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES))
    def lease(self, name: str) -> None:
        told = self.store.lease_batch(self.workers[name], TTL)
        self.held.pop(name, None)
        self._taken_back()
        if told is None:
            if name not in self.draining | self.quarantined:
                soonest = self.database.read(model.soonest)
                assert soonest is None or soonest > self.clock.now
            return
        assert name not in self.draining | self.quarantined
        assert not {item.item_id for item in told.items} & (self.reported.keys() | self.lost)
        (job,) = [job for job in self.jobs if job.job_id == told.job_id]
        assert job.active
        known = model.KnownLease(told, name, self._in(TTL))
        self.leases.append(known)
        self.held[name] = known

    @rule()
    def all_lease(self) -> None:
        for name in NAMES:
            self.lease(name)

    @rule(back=st.integers(0, 9))
    def heartbeat(self, back: int) -> None:
        for known in self._recent(back):
            lease = known.lease
            if self.held.get(known.worker) is not known or known.until <= self.clock.now:
                model.refused(self.store.heartbeat, lease.lease_id, lease.epoch, TTL)
                continue
            told = self.store.heartbeat(lease.lease_id, lease.epoch, TTL)
            known.until = self._in(TTL)
            (job,) = [job for job in self.jobs if job.job_id == lease.job_id]
            if not job.active:
                assert told is Command.CANCEL
            else:
                drains = known.worker in self.draining
                assert told is (Command.DRAIN if drains else Command.CONTINUE)

    @rule(back=st.integers(0, 9), first=st.integers(0, 2), count=st.integers(1, 3))
    def report(self, back: int, first: int, count: int) -> None:
        """Report in time, late or again, through whichever lease."""
        for known in self._recent(back):
            lease = known.lease
            ids = [item.item_id for item in lease.items][first:][:count]
            number = 1 + len(self.reported)
            told = self.store.report(
                lease.lease_id,
                lease.epoch,
                self.workers[known.worker],
                ENVIRONMENT,
                [(item_id, measured(number * TICK_SECS)) for item_id in ids],
            )
            new = [item_id for item_id in ids if item_id not in self.reported.keys() | self.lost]
            assert list(told.accepted) == new
            assert set(told.duplicate) == set(ids) - set(new)
            self.reported |= dict.fromkeys(new, number)
            self.measured_by |= dict.fromkeys(new, (known.worker, self.clock.now))
            if known.worker in self.quarantined:
                self.aside |= set(new)
            for name, other in list(self.held.items()):
                if {item.item_id for item in other.lease.items} <= self.reported.keys() | self.lost:
                    del self.held[name]
            is_open = self.held.get(known.worker) is known and known.until > self.clock.now
            assert told.lease_open == is_open

    @rule(back=st.integers(0, 3))
    def release(self, back: int) -> None:
        for known in self._recent(back):
            lease = known.lease
            if self.held.get(known.worker) is known:
                # Even overdue, as long as nobody took it back.
                self.store.release(lease.lease_id, lease.epoch)
                del self.held[known.worker]
            else:
                model.refused(self.store.release, lease.lease_id, lease.epoch)

    @rule(name=st.sampled_from(NAMES), drain=st.booleans())
    def restart(self, name: str, drain: bool) -> None:
        """Register again, or be told to leave."""
        if drain:
            self.store.drain_worker(self.workers[name])
            self.draining.add(name)
            return
        assert worker(self.store, name).worker_id == self.workers[name]
        self.draining.discard(name)
        self.held.pop(name, None)
        self._taken_back()

    # --- the health of workers -------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), outcomes=st.sampled_from(("+", "-", "---", "+++")))
    def check(self, name: str, outcomes: str) -> None:
        for outcome in outcomes:
            told = self.store.check_worker(
                self.workers[name],
                [1e-3, 1e-3] if outcome == "+" else [],
                boot_id="boot",
                failure=None if outcome == "+" else "illegal instruction",
                strict=True,
            )[1]
            self.checks[name].append(outcome == "+")
            if outcome == "+":
                self.well_at[name] = self.clock.now
            lately = self.checks[name][-3:]
            if name in self.quarantined:
                if len(lately) == GOOD_CHECKS and all(lately):
                    self.quarantined.discard(name)
            elif len(lately) == BAD_CHECKS and not any(lately):
                self._quarantine(name)
            assert (told is not None) == (name in self.quarantined)

    @rule(name=st.sampled_from(NAMES))
    def clear(self, name: str) -> None:
        self.store.clear_worker(self.workers[name])
        self.quarantined.discard(name)
        self.checks[name].append(True)
        self.well_at[name] = self.clock.now
        self.aside -= {item for item, (by, _) in self.measured_by.items() if by == name}

    @rule()
    def judge(self) -> None:
        names = {worker_id: name for name, worker_id in self.workers.items()}
        for worker_id in self.store.judge_workers():
            assert names[worker_id] not in self.quarantined
            self._quarantine(names[worker_id])

    # --- time ------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def expire(self) -> None:
        overdue = [known for known in self.held.values() if known.until <= self.clock.now]
        assert self.store.expire_leases() == len(overdue)
        self._taken_back()

    def teardown(self) -> None:
        """Whatever happened, the queue runs empty once the fleet behaves."""
        if not hasattr(self, "store"):
            return
        self.restart("a", drain=False)
        self.clear("a")
        for _ in range(200):
            # Longer than any lease or backoff.
            self.wait(1000.0)
            self.lease("a")
            if "a" in self.held:
                self.report(0, 0, 3)
            elif not self.database.read(model.measuring):
                break
        self.nothing_is_lost_doubled_or_stuck()
        self.database.read(self.check_end)


def run_fleets(
    database: Database, clock: model.StoppedClock, *, runs: int, steps: int, start: int
) -> None:
    """Run fleets that differ on one database.

    Parameters
    ----------
    database : Database
        Migrated, with that clock; it is emptied.
    start : int
        Seed of the choices.
    """

    class Run(Fleet):
        pass

    Run.database, Run.clock = database, clock
    run_state_machine_as_test(
        seed(start)(Run),
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
