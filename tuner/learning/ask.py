"""Asking what can be told of a workload that was never measured: a pure function for a pool."""

from dataclasses import dataclass, field

from schedules.records import Tier
from tuner.client import wire


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """The best of a workload like the one that is asked about, on the same target.

    Attributes
    ----------
    workload : WorkloadWire
        The other workload.
    trace : str
        Canonical trace of its best.
    latency_secs : float
        Of that.
    record_id : str
        Its record.
    """

    workload: wire.WorkloadWire
    trace: str = field(repr=False)
    latency_secs: float
    record_id: str


@dataclass(frozen=True, kw_only=True)
class AnswerRequest:
    """What is asked, and what there is to answer with.

    Attributes
    ----------
    workload, target
        What is asked about.
    space : str
        Where schedules are taken from.
    neighbours : tuple of Neighbour
        Nearest first.
    base_model : bytes or None
        The file of the cost model in use.
    seed : int
        Of what is sampled.
    """

    workload: wire.WorkloadWire
    target: dict[str, object]
    space: str
    neighbours: tuple[Neighbour, ...]
    base_model: bytes | None = field(repr=False)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best that can be told; nothing of it was measured.

    Attributes
    ----------
    tier : Tier
        `Tier.NEIGHBOUR`, `Tier.PREDICTED` or `Tier.DEFAULT`.
    trace : str
        Canonical trace; it applies to the workload.
    latency_secs : float
        What is expected of it.
    latency_interval_secs : tuple of float
        Holds the latency in nine of ten cases, as far as held-out workloads can tell.
    neighbour_record_id : str or None
        The record that the trace comes from.
    model_version : str or None
        The cost model that was asked.
    """

    tier: Tier
    trace: str = field(repr=False)
    latency_secs: float
    latency_interval_secs: tuple[float, float]
    neighbour_record_id: str | None
    model_version: str | None


def ask(request: AnswerRequest) -> Answer | None:
    """Find the best that can be told.

    Neighbours' traces are adapted, and the model chooses among them and random schedules, which it
    has to believe clearly faster. The farther a task is from all that it learnt, the less it is
    asked: first it does not choose, then it does not tell anything.

    Returns
    -------
    Answer or None
        None where there is neither a neighbour nor a model that knows such tasks.
    """
    # Imports TVM, which whoever only sends requests does without.
    from tuner.learning.answer import answer

    return answer(request)
