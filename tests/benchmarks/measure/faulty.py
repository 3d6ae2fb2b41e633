"""Candidates of which a tenth crash, hang or never finish compiling, on the real bench.

Only what a child does with a bad candidate is prepared; forks, limits, deadlines and everything
else are the product's. Run as ``python -m tests.benchmarks.measure.faulty COUNT``; prints one line
of JSON.
"""

import ctypes
import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from schedules import detect
from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.records import Candidate, FailureKind, trace_id
from tuner.measure import backend, child
from tuner.measure.bench import Bench
from tuner.measure.deadlines import Deadlines
from tuner.measure.kernel import Assignment
from tuner.measure.protocol import MeasureBatch
from tuner.session import BATCH_SIZE

DEADLINES = Deadlines(build_secs=5.0, slow_build_secs=1.0, run_secs=0.5)
EVERY = 10
"""One of so many candidates is bad."""

_BLOCK = '["GetSBlock",[],["batch_matmul","main"],["b0"]]'


def _sleep(commands: BinaryIO, answers: BinaryIO) -> None:
    time.sleep(3600)


def _crash(commands: BinaryIO, answers: BinaryIO) -> None:
    ctypes.string_at(1)


def _hang_when_run(commands: BinaryIO, answers: BinaryIO) -> None:
    child.answer(answers, {"built_secs": 0.05, "code_id": None})
    commands.readline()
    _sleep(commands, answers)


FAULTS: tuple[tuple[FailureKind, Callable[[BinaryIO, BinaryIO], None]], ...] = (
    (FailureKind.BUILD_ERROR, _crash),
    (FailureKind.BUILD_TIMEOUT, _sleep),
    (FailureKind.RUN_TIMEOUT, _hang_when_run),
)


def candidate(number: int) -> Candidate:
    """A candidate that is distinct, and compiles to the same code as the others."""
    loops = ",".join(f'"l{number}_{axis}"' for axis in range(4))
    trace = f'[[{_BLOCK},["GetLoops",["b0"],[],[{loops}]]],[]]'
    return Candidate(trace=trace, trace_id=trace_id(trace))


def measure(count: int) -> dict[str, Any]:
    """Measure `count` candidates and say what became of them and of this process.

    Returns
    -------
    dict
        ``measured``, ``expected`` and ``failures`` by kind; ``left`` processes, descriptors and
        files that were not there before; ``grown_mb`` of resident memory.
    """
    numbers = {candidate(number).trace: number for number in range(count)}
    serve = child.serve

    def serve_or_fail(assignment: Assignment, commands: BinaryIO, answers: BinaryIO) -> None:
        number = numbers.get(assignment.trace)
        if number is None or number % EVERY:
            return serve(assignment, commands, answers)
        return FAULTS[number // EVERY % len(FAULTS)][1](commands, answers)

    identify = backend._code_id
    child.serve = serve_or_fail
    # All of them compile to the same code, and each has to be timed.
    backend._code_id = lambda llvm_ir: uuid.uuid4().hex
    try:
        return _measure(count)
    finally:
        child.serve, backend._code_id = serve, identify


def _measure(count: int) -> dict[str, Any]:
    workload = workload_from_call(
        find_operator("batch_matmul").call({"b": 1, "n": 64, "m": 64, "k": 64})
    )
    target = detect.native_target()
    bench = Bench(builders=detect.usable_cores(), deadlines=DEADLINES)
    failures: Counter[FailureKind] = Counter()
    measured = 0
    before: Mapping[str, Any] = {}
    started = time.monotonic()
    for start in range(0, count, BATCH_SIZE):
        part = tuple(map(candidate, range(start, min(start + BATCH_SIZE, count))))
        batch = MeasureBatch(workload=workload, target=target, candidates=part)
        for item in bench.measure(batch, seed=1):
            if item.result.failure is None:
                measured += 1
            else:
                failures[item.result.failure.kind] += 1
        # What the first batch loads stays, whatever follows.
        before = before or _state()
    after = _state()
    expected = Counter(
        FAULTS[number // EVERY % len(FAULTS)][0] for number in range(0, count, EVERY)
    )
    return {
        "candidates": count,
        "measured": measured,
        "failures": failures,
        "expected": expected,
        "left": {
            name: sorted(set(after[name]) - set(before[name]))
            for name in ("children", "descriptors", "files")
        },
        "grown_mb": (after["resident_bytes"] - before["resident_bytes"]) / 2**20,
        "wall_secs": time.monotonic() - started,
    }


def _state() -> dict[str, Any]:
    process = Path("/proc/self")
    resident_pages = int((process / "statm").read_text().split()[1])
    return {
        "children": (process / "task" / str(os.getpid()) / "children").read_text().split(),
        "descriptors": [path.name for path in (process / "fd").iterdir()],
        "files": [path.name for path in Path("/tmp").glob("tunesmith-*")],
        "resident_bytes": resident_pages * os.sysconf("SC_PAGE_SIZE"),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
