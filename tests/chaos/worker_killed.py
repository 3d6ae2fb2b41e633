"""Workers die: of a candidate that takes the whole daemon down, or between spool and post."""

from functools import partial
from pathlib import Path

from tests.chaos.fault import Fault, Outcome
from tests.chaos.fleet import POSTGRESQL, SQLITE, fleet, wait_for

_BATCH = 4
_CRASHES_AT_MOST = 3
_KILL_ODDS = 0.25


def poison_batches(count: int, folder: Path, *, database: str) -> Outcome:
    """Queue so many batches with one candidate each that kills the daemon which measures it."""
    jobs = min(8, count)
    workers = min(6, 1 + count // 2)
    options = ("--poison", str(_BATCH), "--secs", "0.02", "--poll-secs", "2")
    with fleet(folder, database, jobs=jobs, batch=_BATCH, search_processes=jobs) as made:
        made.start_server()
        made.wait_for_server()
        for number in range(workers):
            made.start_worker(f"w{number}", *options)
        batches = 0
        for number in range(jobs):
            share = (count + number) // jobs
            made.submit(_BATCH * share)
            batches += share
        found = made.finish()
        crashes: dict[tuple[str, int], int] = {}
        for line in made.ledger.lines("crashed"):
            key = tuple(line["prepared"])
            crashes[key] = crashes.get(key, 0) + 1
        worst = max(crashes.values(), default=0)
        too_often = sum(number > _CRASHES_AT_MOST for number in crashes.values())
        # Only poison may be given up, all of it is, and its neighbours are measured once.
        wrong = abs(found.given_up - batches) + abs(len(crashes) - batches)
        return found.outcome(
            batches,
            f"{worst} crashes at most",
            duplicated=too_often + found.again + wrong,
        )


def kill_before_posting(count: int, folder: Path, *, database: str) -> Outcome:
    """Kill daemons right after a result was spooled, until that happened so many times."""
    jobs = workers = min(6, count)
    options = (
        *("--die-spooled", str(_KILL_ODDS), "--deaths", str(count)),
        *("--secs", "0.02", "--poll-secs", "2"),
    )
    with fleet(folder, database, jobs=jobs + count, search_processes=jobs) as made:
        made.start_server()
        made.wait_for_server()
        for number in range(workers):
            made.start_worker(f"w{number}", *options)

        def killed() -> bool:
            made.keep_busy(jobs, min(100, 16 * count))
            made.restart_dead_workers()
            return len(made.ledger.lines("killed")) >= count

        wait_for(killed, f"{count} kills", every_secs=0.1)
        found = made.finish()
        return found.outcome(len(made.ledger.lines("killed")), duplicated=found.again)


FAULTS = tuple(
    Fault(
        name=f"{name} ({database})",
        run=partial(run, database=database),
        full=100,
        shrunk=2 if database == tried_on else 0,
        databases=(database,),
        full_secs=90,
    )
    for name, run, tried_on in (
        ("poison candidate", poison_batches, SQLITE),
        ("worker killed between spool and post", kill_before_posting, POSTGRESQL),
    )
    for database in (SQLITE, POSTGRESQL)
)
