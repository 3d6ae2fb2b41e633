"""Prepared candidates: numbered within their job; what is to happen to one follows from that."""

import json

from schedules.identity import canonical_json, sha256_id
from tuner.client import wire

CHILD_FAULTS = (None, "segfault", "hang", "memory", "exit")
"""What a child does; they take turns, so that every batch of so many has each."""

_NUMBERED = "Numbered"


def numbered(job_id: str, number: int) -> wire.CandidateWire:
    """Make the candidate for the n-th trial of a job."""
    trace = [[[_NUMBERED, [], [job_id, number], []]], []]
    return wire.CandidateWire(trace=canonical_json(trace), trace_id=sha256_id(trace))


def prepared(trace: str) -> tuple[str, int] | None:
    """Return the job and number of a prepared candidate, None for another."""
    instructions, _ = json.loads(trace)
    if not instructions or instructions[0][0] != _NUMBERED:
        return None
    job_id, number = instructions[0][2]
    return job_id, number


def fault_of(number: int) -> str | None:
    """Return what the child of a candidate does, None for one that is healthy."""
    return CHILD_FAULTS[number % len(CHILD_FAULTS)]


def is_built_first(number: int) -> bool:
    """Whether a child fails when it runs, as most do, or already when it builds."""
    return number // len(CHILD_FAULTS) % 4 != 3
