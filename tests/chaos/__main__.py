"""Runs all faults in full and reports them: ``python -m tests.chaos [--only NAME] [--fresh]``."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any

from tests.benchmarks.report import Checkpoint, Table, publish
from tests.chaos.fault import Fault, Outcome
from tests.chaos.registry import FAULTS

AT_ONCE = 3
"""So many faults are injected beside each other: they mostly wait."""

TEXT = """
Every fault is injected into real processes: `tunesmith serve` with prepared candidates in place of
a search, real worker daemons whose measurers invent times (real measuring hosts where children
die), real HTTP, SQLite and PostgreSQL. Each measurement is first written to an fsynced ledger
outside the product. At the end ledger and database are compared: *lost* is a measurement without
its record, *duplicated* a fact that is stored or counted twice or a step that was taken twice,
*orphaned* what nobody can finish any more: a batch, job, spooled result, process or device.
The faults share the machine, {at_once} at a time; the times to recover are those of a busy one.
"""
COLUMNS = (
    "fault",
    "database",
    "faults",
    "lost",
    "duplicated",
    "orphaned",
    "worst recovery, s",
    "limit, s",
    "took, s",
    "notes",
)


def main() -> int:
    """Run what the command line names; return 1 where a fault did harm."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--only", metavar="NAME", help="faults whose name has this in it")
    parser.add_argument("--faults", type=int, help="inject so many of each")
    parser.add_argument("--fresh", action="store_true", help="run again what was finished before")
    options = parser.parse_args()
    quick = os.environ.get("QUICK") == "1"
    chosen = [fault for fault in FAULTS if (options.only or "") in fault.name]
    if quick:
        chosen = [fault for fault in chosen if fault.shrunk]
    if not chosen:
        parser.error(f"no such fault; there are: {', '.join(fault.name for fault in FAULTS)}")
    in_part = quick or len(chosen) < len(FAULTS) or options.faults is not None
    if not quick:
        minutes = sum(fault.full_secs for fault in chosen) / 60 / AT_ONCE
        print(f"{len(chosen)} faults; in full about {minutes:.0f} minutes", flush=True)
    counts = {fault: options.faults or (fault.shrunk if quick else fault.full) for fault in chosen}
    found = dict(_injected(counts, Checkpoint("chaos", fresh=options.fresh)))
    outcomes = [Outcome(**found[fault]["outcome"]) for fault in chosen]
    rows = [
        _row(fault, outcome, found[fault]["took_secs"])
        for fault, outcome in zip(chosen, outcomes, strict=True)
    ]
    publish(
        "chaos",
        title="Faults",
        text=TEXT.format(at_once=AT_ONCE),
        tables=[Table(title="What they did", columns=COLUMNS, rows=rows)],
        keys={
            "faults": sum(outcome.faults for outcome in outcomes),
            "lost": sum(outcome.lost for outcome in outcomes),
            "duplicated": sum(outcome.duplicated for outcome in outcomes),
            "orphaned": sum(outcome.orphaned for outcome in outcomes),
            "late": sum(not outcome.in_time for outcome in outcomes),
        },
        quick=in_part,
    )
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def _injected(
    counts: Mapping[Fault, int], checkpoint: Checkpoint
) -> Iterator[tuple[Fault, dict[str, Any]]]:
    """Inject faults, the longest first, and give what came of each as it ends."""
    longest_first = sorted(counts, key=lambda fault: -fault.full_secs)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
        running = {
            threads.submit(
                checkpoint.part,
                f"{fault.name} {counts[fault]}",
                partial(_run, fault, counts[fault]),
            ): fault
            for fault in longest_first
        }
        for ended in as_completed(running):
            fault, part = running[ended], ended.result()
            outcome = Outcome(**part["outcome"])
            print(f"{'ok' if outcome.passed else 'FAILED'}: {fault.name}: {outcome}", flush=True)
            yield fault, part


def _run(fault: Fault, count: int) -> dict[str, Any]:
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-m", "tests.chaos.alone", fault.name, str(count)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    outcome = json.loads(printed.splitlines()[-1])
    return {"outcome": outcome, "took_secs": time.monotonic() - began}


def _row(fault: Fault, outcome: Outcome, took_secs: float) -> list[str | int | float]:
    return [
        fault.name,
        ", ".join(fault.databases),
        outcome.faults,
        outcome.lost,
        outcome.duplicated,
        outcome.orphaned,
        "" if outcome.worst_secs is None else f"{outcome.worst_secs:.1f}",
        "" if outcome.limit_secs is None else f"{outcome.limit_secs:.0f}",
        f"{took_secs:.0f}",
        outcome.notes,
    ]


if __name__ == "__main__":
    sys.exit(main())
