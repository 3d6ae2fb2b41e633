"""Workers are stopped until their leases have run out, and then continued."""

import random
import signal
import time
from functools import partial
from pathlib import Path

from tests.chaos.fault import Fault, Outcome
from tests.chaos.fleet import POSTGRESQL, SQLITE, fleet, wait_for
from tests.chaos.leases import lease_times

_TTL_SECS = 1.5
_EXPIRY_SECS = 1.0
"""Within this after its end, a lease is taken back by the orchestrator's next look."""
_WORKERS = 10
_JOBS = 8
_TRIALS = 120


def stop_workers(count: int, folder: Path, *, database: str) -> Outcome:
    """Stop workers that measure, as many at once as half of the fleet."""
    workers = min(_WORKERS, 1 + count)
    jobs = min(_JOBS, workers)
    with fleet(
        folder,
        database,
        jobs=jobs * (2 + count),
        lease_ttl_secs=_TTL_SECS,
        heartbeat_secs=0.5,
        search_processes=_JOBS,
    ) as made:
        made.start_server()
        made.wait_for_server()
        for number in range(workers):
            made.start_worker(f"w{number}", "--secs", "0.3", "--poll-secs", "2")
        stopped = 0
        while stopped < count:
            made.keep_busy(jobs, min(_TRIALS, 16 * count))
            wait_for(lambda: bool(made.measuring()), "a worker that measures")
            time.sleep(random.uniform(0.5, 1.0))
            busy = made.measuring()
            chosen = [
                process
                for process in (made.worker(f"w{number}") for number in range(workers))
                if process.pid in busy
            ][: min(max(1, workers // 2), count - stopped)]
            for process in chosen:
                process.send_signal(signal.SIGSTOP)
            # Some come back before their items are leased again, and some while others have them.
            time.sleep(_TTL_SECS + _EXPIRY_SECS)
            for process in chosen:
                time.sleep(random.uniform(0, 1.5))
                process.send_signal(signal.SIGCONT)
            stopped += len(chosen)
        found = made.finish()
        times = lease_times(made.ledger.lines("lease", "heartbeat"))
        return found.outcome(
            stopped, f"{times.stale} stale transitions", duplicated=times.stale + times.early
        )


FAULTS = tuple(
    Fault(
        name=f"worker stopped past its lease ({database})",
        run=partial(stop_workers, database=database),
        full=100,
        shrunk=1 if database == POSTGRESQL else 0,
        databases=(database,),
        full_secs=150,
    )
    for database in (SQLITE, POSTGRESQL)
)
