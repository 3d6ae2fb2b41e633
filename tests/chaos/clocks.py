"""Workers whose clocks are a day off, and jump."""

from functools import partial
from pathlib import Path

from tests.chaos.fault import Fault, Outcome
from tests.chaos.fleet import POSTGRESQL, SQLITE, fleet
from tests.chaos.leases import lease_times

_TTL_SECS = 1.5
_WORKERS = 4
_BATCH = 2


def jump_clocks(count: int, folder: Path, *, database: str) -> Outcome:
    """Lease so many batches to workers whose clocks jump, some candidates outlasting a lease."""
    workers = min(_WORKERS, count)
    share = -(-count // workers)
    with fleet(
        folder,
        database,
        jobs=workers,
        batch=_BATCH,
        lease_ttl_secs=_TTL_SECS,
        heartbeat_secs=0.4,
    ) as made:
        made.start_server()
        made.wait_for_server()
        for number in range(workers):
            made.start_worker(
                f"w{number}",
                *("--secs", str(1.5 * _TTL_SECS), "--poll-secs", "2"),
                module="tests.chaos.wrong_clock",
                # What is imported before its clocks are spoilt would keep the right ones.
                fresh=True,
            )
        for _ in range(workers):
            made.submit(_BATCH * share)
        found = made.finish()
        times = lease_times(made.ledger.lines("lease", "heartbeat"))
        jumps = len(made.ledger.lines("jumped"))
        return found.outcome(
            times.leases,
            f"{jumps} jumps, {times.early} early and {times.stale} eternal leases",
            duplicated=times.early + times.stale + found.again,
        )


FAULTS = tuple(
    Fault(
        name=f"worker clocks a day off and jumping ({database})",
        run=partial(jump_clocks, database=database),
        full=100,
        shrunk=1 if database == SQLITE else 0,
        databases=(database,),
        full_secs=120,
    )
    for database in (SQLITE, POSTGRESQL)
)
