"""Runs all faults in full and reports them: ``python -m tests.chaos [--only NAME] [--fresh]``."""

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.report import Checkpoint, Table, publish
from tests.chaos.fault import Fault, Outcome
from tests.chaos.registry import FAULTS

TEXT = """
Every fault is injected into real processes: `tunesmith serve` with prepared candidates in place of
a search, real worker daemons whose measurers invent times (real measuring hosts where children
die), real HTTP, SQLite and PostgreSQL. Each measurement is first written to an fsynced ledger
outside the product. At the end ledger and database are compared: *lost* is a measurement without
its record, *duplicated* a fact that is stored or counted twice or a step that was taken twice,
*orphaned* what nobody can finish any more: a batch, job, spooled result, process or device.
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
        minutes = sum(fault.full_secs for fault in chosen) / 60
        print(f"{len(chosen)} faults; in full about {minutes:.0f} minutes", flush=True)
    checkpoint = Checkpoint("chaos", fresh=options.fresh)
    rows, outcomes = [], []
    for fault in chosen:
        count = options.faults or (fault.shrunk if quick else fault.full)
        part = checkpoint.part(f"{fault.name} {count}", partial(_run, fault, count))
        outcome = Outcome(**part["outcome"])
        outcomes.append(outcome)
        rows.append(_row(fault, outcome, part["took_secs"]))
        print(f"{'ok' if outcome.passed else 'FAILED'}: {fault.name}: {outcome}", flush=True)
    publish(
        "chaos",
        title="Faults",
        text=TEXT,
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


def _run(fault: Fault, count: int) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        outcome = fault.run(count, Path(folder))
    return {"outcome": dataclasses.asdict(outcome), "took_secs": time.monotonic() - began}


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
