"""The server is killed at random points; the jobs go on when it is started again."""

import math
import random
import time
from functools import partial
from pathlib import Path

from service.orchestrator import OWNER_TTL_SECS
from tests.chaos.fault import Fault, Outcome
from tests.chaos.fleet import POSTGRESQL, SQLITE, Fleet, fleet, wait_for

RESUME_SECS = {SQLITE: 10.0, POSTGRESQL: 10.0 + OWNER_TTL_SECS}
"""An embedded server knows that its predecessor is gone. One on PostgreSQL may have others beside
it, so it lets the holds of the dead one run out."""
_WORKERS = 3
_JOBS = 3
_TRIALS = 150
_MANY = 10


def kill_servers(count: int, folder: Path, *, database: str) -> Outcome:
    """Kill the one server so many times; every fourth time while it starts."""
    worst_secs = 0.0
    trials = _TRIALS if count >= _MANY else 32
    # The time that a restart may take includes the imports.
    fresh = count >= _MANY
    with fleet(folder, database, jobs=_JOBS * (count + 2)) as made:
        process = made.start_server(fresh=fresh)
        made.wait_for_server()
        for number in range(_WORKERS):
            made.start_worker(f"w{number}", "--secs", "0.05", "--poll-secs", "2")
        _wait_until_it_goes_on(made, process.pid, trials)
        for kill in range(count):
            starting = kill % 4 == 3
            time.sleep(random.uniform(0, 3.0 if starting else 0.5))
            made.kill(process)
            started = time.monotonic()
            process = made.start_server(fresh=fresh)
            if starting:
                continue
            _wait_until_it_goes_on(made, process.pid, trials)
            worst_secs = max(worst_secs, time.monotonic() - started)
        made.wait_for_server()
        limit_secs = RESUME_SECS[database] if fresh else math.inf
        return made.finish().outcome(count, worst_secs=worst_secs, limit_secs=limit_secs)


def _wait_until_it_goes_on(made: Fleet, server: int, trials: int) -> None:
    """Return when a candidate is measured that this server process has queued."""
    since = made.ledger.size
    made.wait_for_server()
    proposed: set[tuple[str, int]] = set()

    def goes_on() -> bool:
        # The other jobs may all have had their trials.
        made.keep_busy(_JOBS, trials)
        for line in made.ledger.lines("proposed", "measured", since=since):
            if line["kind"] == "measured":
                if line["prepared"] and tuple(line["prepared"]) in proposed:
                    return True
            elif line["pid"] == server:
                first = line["first"]
                proposed.update((line["job"], n) for n in range(first, first + line["count"]))
        return False

    wait_for(goes_on, "a measurement that the new server has queued", every_secs=0.1)


FAULTS = tuple(
    Fault(
        name=f"server killed ({database})",
        run=partial(kill_servers, database=database),
        full=100,
        shrunk=1 if database == SQLITE else 0,
        databases=(database,),
        full_secs=450,
    )
    for database in (SQLITE, POSTGRESQL)
)
