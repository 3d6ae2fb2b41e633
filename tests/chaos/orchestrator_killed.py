"""One of three orchestrators is killed, or stopped until another has its job and then continued."""

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.chaos.audit import Audit
from tests.chaos.fault import Fault, Outcome
from tests.chaos.fleet import POSTGRESQL, Fleet, databases, wait_for

TAKEOVER_SECS = 70.0
_TUNERS = 3
_FLEETS = 6
_FEW = 6
_SHORT_TTL_SECS = 3.0
_TRIALS_PER_FAULT = 40


@dataclass(frozen=True, kw_only=True)
class _Found:
    audit: Audit
    worst_secs: float
    stops: int


def break_orchestrators(count: int, folder: Path) -> Outcome:
    """Kill so many, and stop half as many past their holds.

    Several fleets at once, as each fault takes as long as a hold. A few faults are tried with short
    holds.
    """
    fleets = min(_FLEETS, 1 + count // _FEW)
    ttl_secs = _SHORT_TTL_SECS if count < _FEW else None
    with (
        databases([POSTGRESQL] * fleets, folder) as urls,
        ThreadPoolExecutor(fleets) as pool,
    ):
        runs = [
            pool.submit(
                _break_one_fleet,
                (count + number) // fleets,
                folder / str(number),
                url,
                ttl_secs,
            )
            for number, url in enumerate(urls)
        ]
        found = [run.result() for run in runs]
    stops = sum(one.stops for one in found)
    return Audit.total(one.audit for one in found).outcome(
        count + stops,
        f"{count} killed, {stops} stopped past their hold and continued",
        worst_secs=max(one.worst_secs for one in found),
        limit_secs=TAKEOVER_SECS,
    )


def _break_one_fleet(kills: int, folder: Path, database_url: str, ttl_secs: float | None) -> _Found:
    folder.mkdir()
    worst_secs = 0.0
    faults = kills + (kills + 1) // 2
    made = Fleet(folder, database_url, batch=4, owner_ttl_secs=ttl_secs)
    try:
        made.prepare(faults + 1)
        made.start_server("api")
        made.wait_for_server()
        made.start_worker("w", "--secs", "0.1", "--poll-secs", "2")
        tuners = {made.start_server("tuner") for _ in range(_TUNERS)}
        for fault in range(faults):
            made.keep_busy(1, _TRIALS_PER_FAULT * (faults - fault))
            since = made.ledger.size
            wait_for(partial(_is_held, made, since), "an orchestrator with a job")
            time.sleep(random.uniform(0, 1))
            job_id, pid = _holders(made, since)[-1]
            victim = next(tuner for tuner in tuners if tuner.pid == pid)
            # Kill, stop, kill; kill, stop, kill.
            stop = fault % 3 == 1
            since = made.ledger.size
            if stop:
                victim.send_signal(signal.SIGSTOP)
            else:
                made.kill(victim)
                tuners.remove(victim)
            began = time.monotonic()
            if not stop:
                tuners.add(made.start_server("tuner"))
            wait_for(
                partial(_is_taken_over, made, job_id, pid, since),
                "another orchestrator for the job",
                every_secs=0.2,
            )
            worst_secs = max(worst_secs, time.monotonic() - began)
            if stop:
                victim.send_signal(signal.SIGCONT)
        return _Found(audit=made.finish(), worst_secs=worst_secs, stops=faults - kills)
    finally:
        made.close()


def _is_held(made: Fleet, since: int) -> bool:
    return bool(_holders(made, since))


def _is_taken_over(made: Fleet, job_id: str, pid: int, since: int) -> bool:
    """Whether another process has given the job candidates, or published its best."""
    if any(job == job_id and other != pid for job, other in _holders(made, since)):
        return True
    return job_id not in made.active_jobs()


def _holders(made: Fleet, since: int) -> list[tuple[str, int]]:
    """Return which jobs have got candidates lately, and from which process; the latest last."""
    return [(line["job"], line["pid"]) for line in made.ledger.lines("proposed", since=since)]


FAULTS = (
    Fault(
        name="orchestrator killed or stopped",
        run=break_orchestrators,
        full=50,
        shrunk=1,
        databases=(POSTGRESQL,),
        full_secs=360,
    ),
)
