"""The facts of tuning: candidates, results, records and bests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from schedules.identity import sha256_id
from schedules.runtimes import latency

DEFAULT_TRACE = "[[],[]]"
"""The canonical trace that leaves the schedule to the compiler's default.

On a CPU that is the program as it was written, on a GPU what TVM's zero-search rules make of it.
"""

PROTOCOL_VERSION = 7
"""Version of the measurement protocol; see `tuner.measure.timing`."""


class FailureKind(StrEnum):
    """Why a trial has no runtime."""

    INVALID = "invalid"
    """The trace does not apply to the workload."""
    BUILD_ERROR = "build_error"
    BUILD_TIMEOUT = "build_timeout"
    RUN_ERROR = "run_error"
    RUN_TIMEOUT = "run_timeout"
    OUT_OF_MEMORY = "out_of_memory"
    """The device has too little free memory for the buffers."""
    WRONG_OUTPUT = "wrong_output"
    WORKER_LOST = "worker_lost"


class Purpose(StrEnum):
    """What a measurement is for."""

    TRIAL = "trial"
    """Guides the search; timed briefly, not checked."""
    FINAL = "final"
    """Decides what is published; timed interleaved with its rivals, output checked."""


class Origin(StrEnum):
    """Where a candidate comes from."""

    SEARCH = "search"
    DEFAULT = "default"
    """The compiler's default."""
    IMPORTED = "imported"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed build or run.

    Attributes
    ----------
    kind : FailureKind
        What failed.
    detail : str
        The tail of the error text.
    """

    kind: FailureKind
    detail: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trace proposed for one workload and target.

    Attributes
    ----------
    trace : str
        Canonical JSON of the trace; see `schedules.trace`.
    trace_id : str
        SHA-256 of `trace`.
    origin : Origin
        Where it comes from.
    predicted_score : float or None
        What the cost model said; larger is faster.
    model_version : str or None
        The cost model that ranked it.
    """

    trace: str = field(repr=False)
    trace_id: str
    origin: Origin = Origin.SEARCH
    predicted_score: float | None = None
    model_version: str | None = None


def trace_id(trace: str) -> str:
    """Return the SHA-256 of a canonical trace."""
    return sha256_id(json.loads(trace))


def default_candidate() -> Candidate:
    """Return the compiler's default; see `DEFAULT_TRACE`."""
    return Candidate(trace=DEFAULT_TRACE, trace_id=trace_id(DEFAULT_TRACE), origin=Origin.DEFAULT)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How an output was checked.

    Attributes
    ----------
    reference : str
        ``numpy`` or ``unscheduled``.
    tolerance : float
        Largest accepted error, relative to the scale of the reference output.
    error : float
        Largest error found, in the same unit; NaN counts as infinite and is stored as -1.
    passed : bool
        Whether `error` is within `tolerance`.
    """

    reference: str
    tolerance: float
    error: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class MeasureResult:
    """What came of building and running one candidate: runtimes, a bound, or a failure.

    Attributes
    ----------
    run_secs : tuple of float
        Seconds of one call, one value per repeat, in the order of measuring; empty on failure.
    failure : Failure or None
        Why there are no runtimes, or none that count, as the output is wrong.
    censored_secs : float or None
        Set where timing was given up because the candidate is clearly slower than the incumbent:
        no call took less than this. `run_secs` then holds what was seen until then, which is too
        little for a latency.
    duplicate_of : str or None
        Trace id of the candidate that compiles to the same code. That one was timed; this result
        repeats what it gave.
    build_secs : float or None
        How long code generation took.
    verification : Verification or None
        Set if the output was checked.
    conditions : Mapping[str, str | int]
        How it was measured (`tuner.measure.timing`), and what was seen of the kernel and its
        device: on GPUs registers, spills, clocks, throttling. They join the environment in the
        tuning record.
    """

    run_secs: tuple[float, ...] = ()
    failure: Failure | None = None
    censored_secs: float | None = None
    duplicate_of: str | None = None
    build_secs: float | None = None
    verification: Verification | None = None
    conditions: Mapping[str, str | int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def latency_secs(self) -> float | None:
        """What the fastest repeats agree on, see `schedules.runtimes`; None if nothing counts."""
        counts = self.run_secs and self.failure is None and self.censored_secs is None
        return latency(self.run_secs) if counts else None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where a measurement was made.

    Attributes
    ----------
    facts : Mapping[str, str | int]
        Device model, instruction sets, core count, caches, operating system, compiler versions.
    """

    facts: Mapping[str, str | int] = field(default_factory=lambda: MappingProxyType({}))

    def under(self, conditions: Mapping[str, str | int]) -> "Environment":
        """Return this environment with the conditions of one measurement."""
        return Environment(facts=MappingProxyType({**self.facts, **conditions}))


@dataclass(frozen=True, kw_only=True)
class TuningRecord:
    """One trial's facts; never changed after it was stored, but for `set_aside`.

    Attributes
    ----------
    record_id : str
        Unique; made by whoever measured, so that storing twice can be noticed.
    workload_id, target_id : str
        What was measured.
    candidate : Candidate
        The trace and where it came from.
    purpose : Purpose
        What it was measured for.
    result : MeasureResult
        Runtimes or failure.
    environment : Environment
        Where it was measured.
    created_at : datetime
        When it was stored; timezone-aware UTC.
    job_id, worker_id : str or None
        Who asked and who measured.
    protocol_version : int
        The measurement protocol; 0 for imported records.
    set_aside : bool
        Whether it counts for nothing at present, because its device is under suspicion.
    operator : str or None
        The operator that the workload was known as when this was stored; None for a program that
        came as IR.
    """

    record_id: str
    workload_id: str
    target_id: str
    candidate: Candidate
    purpose: Purpose
    result: MeasureResult
    environment: Environment
    created_at: datetime
    job_id: str | None = None
    worker_id: str | None = None
    protocol_version: int = PROTOCOL_VERSION
    set_aside: bool = False
    operator: str | None = None


class Tier(StrEnum):
    """How close a best is to what was asked for."""

    EXACT = "exact"
    NEIGHBOUR = "neighbour"
    PREDICTED = "predicted"
    DEFAULT = "default"
    """Nothing faster than the compiler's default is known."""


@dataclass(frozen=True, kw_only=True)
class Best:
    """The published record of a workload on a target.

    Attributes
    ----------
    tier : Tier
        How close it is to what was asked for.
    latency_secs : float
        Of the re-measurement, as `MeasureResult.latency_secs`.
    latency_interval_secs : tuple of float
        95 % confidence interval of it.
    default_latency_secs : float or None
        Of the compiler's default, measured interleaved with it; None for imported records.
    trace : str
        Canonical JSON.
    verified : bool
        Whether its output was compared with a reference.
    expected_gain : float or None
        By which share of its latency more tuning is expected to make it faster: another batch, or
        tuning at all where nothing was measured. None where nobody can tell.
    """

    tier: Tier
    workload_id: str
    target_id: str
    latency_secs: float
    latency_interval_secs: tuple[float, float]
    default_latency_secs: float | None
    trace: str = field(repr=False)
    trace_id: str
    verified: bool
    record_id: str
    environment: Environment
    model_version: str | None
    created_at: datetime
    expected_gain: float | None = None

    @property
    def speedup(self) -> float | None:
        """Default latency over tuned latency, None where no default was measured."""
        if self.default_latency_secs is None:
            return None
        return self.default_latency_secs / self.latency_secs
