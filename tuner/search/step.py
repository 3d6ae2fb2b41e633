"""One step of a search, as a pure function for an executor's process.

A step is given everything: the workload, the target, and all trials so far. The process keeps the
searches that it ran lately, so that a step which finds its own continues where it stopped; one that
does not rebuilds the search from the trials. The database is never seen here.
"""

import faulthandler
from dataclasses import dataclass, field

from tuner.client import convert, wire

STEP_SECS = 600.0
"""A step takes seconds, the first one of a large program a minute; what has not ended by then never
will, and its process ends with where it was on its standard error."""
_STANDARD_ERROR = 2


@dataclass(frozen=True, kw_only=True)
class TrialWire:
    """A trial in its wire form, which crosses process borders."""

    candidate: wire.CandidateWire
    result: wire.ResultWire


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """What one step needs.

    Attributes
    ----------
    search_id : str
        Equal for the steps of one search.
    trials : tuple of TrialWire
        All trials of the workload on the target so far, oldest first.
    count : int
        How many candidates are wanted.
    threads : int
        How many threads may work; what is proposed does not depend on it.
    least_gain : float or None
        The search ends when its next batch is expected to make the best faster by a smaller share.
    neighbours : tuple of str
        Canonical traces of near workloads' bests, nearest first: what a new search begins with.
    base_model : bytes or None
        The file of the cost model that all jobs share; see `cost_model.base_model`.
    """

    search_id: str
    workload: wire.WorkloadWire
    target: dict[str, object]
    space: str
    seed: int
    trials: tuple[TrialWire, ...]
    count: int
    threads: int = 1
    least_gain: float | None = None
    neighbours: tuple[str, ...] = field(default=(), repr=False)
    base_model: bytes | None = field(default=None, repr=False)


def prepare() -> None:
    """Load what steps need."""
    from tuner.search import warm  # noqa: F401


def propose(request: StepRequest) -> tuple[wire.CandidateWire, ...]:
    """Tell a search what it does not know yet, and ask it for candidates.

    Returns
    -------
    tuple of CandidateWire
        Empty when the space has no more to offer, or nothing that is worth it.
    """
    # Imports TVM, which whoever only sends requests does without.
    from tuner.search import warm

    faulthandler.dump_traceback_later(STEP_SECS, exit=True, file=_STANDARD_ERROR)
    try:
        return tuple(convert.candidate_to_wire(item) for item in warm.ask(request))
    finally:
        faulthandler.cancel_dump_traceback_later()
