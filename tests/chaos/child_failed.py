"""The measuring child segfaults, hangs, runs out of memory or exits; its daemon goes on."""

import json
from pathlib import Path
from typing import Any

from tests.chaos.candidates import CHILD_FAULTS, fault_of, prepared
from tests.chaos.fault import Fault, Outcome
from tests.chaos.fleet import SQLITE, fleet, wait_for

_FREE_SECS = 10.0
_WORKERS = 4
_SIGNS = {
    "segfault": "SIGSEGV",
    "hang": "missed its deadline",
    "memory": "MemoryError",
    "exit": "exited with status 0",
}


def fail_children(count: int, folder: Path) -> Outcome:
    """Let so many children fail in each way."""
    workers = min(_WORKERS, count)
    # What a fault costs is not timed: the daemons need not take turns.
    with fleet(
        folder, SQLITE, jobs=0, batch=len(CHILD_FAULTS), search_while_measuring=True
    ) as made:
        made.start_server()
        made.wait_for_server()
        names = [f"w{number}" for number in range(workers)]
        daemons = [made.start_worker(name, module="tests.chaos.child_worker") for name in names]
        wait_for(lambda: len(made.workers()) == workers, "the workers")
        target_id = made.workers()[0]["target_id"]
        jobs = [
            made.submit(len(CHILD_FAULTS) * ((count + number) // workers), target_id)
            for number in range(workers)
        ]
        wait_for(lambda: not made.active_jobs(), "the end of all jobs", secs=1200, every_secs=0.5)
        survived = all(daemon.poll() is None for daemon in daemons)
        records = [record for job_id in jobs for record in made.records(job_id)]
        found = made.finish(measured_elsewhere=True)
        told = _told(records)
        failed = made.ledger.lines("failed")
        ended = {line["child"]: line["at"] for line in made.ledger.lines("ended")}
        left = sum(Path(f"/proc/{line['pid']}").exists() for line in failed)
        freed_secs = [ended.get(line["pid"], float("inf")) - _due_at(line) for line in failed]
        wrong = abs(told - count * len(_SIGNS)) + abs(len(failed) - count * len(_SIGNS))
        return found.outcome(
            len(failed),
            f"{count} of each: {', '.join(_SIGNS)}; {len(daemons)} daemons, "
            f"{'all alive' if survived else 'NOT all alive'}, {left} processes left",
            lost=wrong,
            orphaned=left + (not survived),
            worst_secs=max(freed_secs),
            limit_secs=_FREE_SECS,
        )


def _told(records: list[dict[str, Any]]) -> int:
    """Count the trials whose record tells what befell them."""
    told = 0
    for record in records:
        made = prepared(json.dumps(record["trace"]))
        fault = None if made is None else fault_of(made[1])
        if fault is not None and record["purpose"] == "trial":
            told += _SIGNS[fault] in record["failure_detail"]
    return told


def _due_at(line: dict[str, Any]) -> float:
    """Return when a child that failed had to be gone; a hanging one has until its deadline."""
    late_secs = line["deadline_secs"] if line["fault"] == "hang" else 0.0
    return float(line["at"] + late_secs)


FAULTS = (
    Fault(
        name="measuring child fails",
        run=fail_children,
        full=200,
        shrunk=1,
        databases=(SQLITE,),
        full_secs=300,
    ),
)
