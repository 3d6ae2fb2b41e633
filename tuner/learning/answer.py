"""What can be told of a workload that was never measured on a target. Imports TVM."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from tvm.s_tir import Schedule

from cost_model.base_model import BaseModel
from cost_model.features import extract
from cost_model.task import describe_task
from schedules import trace as traces
from schedules.ir import module_of
from schedules.records import DEFAULT_TRACE, Tier
from schedules.target import Target
from schedules.workload import Workload
from tuner.client import convert
from tuner.learning.ask import Answer, AnswerRequest, Neighbour
from tuner.learning.shared import base_model
from tuner.search.points import Space

SAMPLES = 64
"""Random schedules among which the model chooses, beside what neighbours' become."""

ATTEMPTS = 4
"""So many are tried for each of them; some are refused."""

NOVELTY_LIMIT = 3.0
"""The model is not asked about tasks that differ from all that it learnt by more than a factor of
two to the power of this in some amount."""

_CHOOSING_LIMIT = 1.0
"""Of tasks that differ by more than this, the nearest neighbour's schedule is told where there is
one: there the model errs more between schedules than neighbours differ."""

_LEAST_VALIDITY = 0.5
_CLEARLY = 0.3
"""So much higher than a neighbour's is the score, a logarithm, of what is preferred to it: it was
measured somewhere, and of many samples the highest score owes something to luck."""
_NEIGHBOUR_FACTOR = 2.0
"""How far off a neighbour's latency may be, scaled by the rooflines, where no model narrows it."""


@dataclass(frozen=True, kw_only=True)
class _Option:
    """A schedule that may be the answer, and the neighbour that it comes from."""

    schedule: Any
    trace: str
    neighbour: Neighbour | None = None


def answer(request: AnswerRequest) -> Answer | None:
    """Find the best that can be told; see `tuner.learning.ask.ask`."""
    workload = convert.workload_from_wire(request.workload)
    target = Target.parse(request.target)
    space = Space(workload=workload, target=target, space=request.space, seed=request.seed)
    unscheduled = Schedule(module_of(workload))
    model = base_model(request.base_model)
    novelty = _novelty(model, unscheduled, workload, target)
    adapted = _adapted(space, request.neighbours)
    if model is None or novelty > NOVELTY_LIMIT:
        return _scaled(adapted[0], workload, target) if adapted else None
    options = adapted[:1]
    if not adapted or novelty <= _CHOOSING_LIMIT:
        samples = islice(space.samples(ATTEMPTS * SAMPLES), SAMPLES)
        options = [*adapted, *(_option(sample.schedule) for sample in samples)]
    default = _Option(schedule=unscheduled, trace=DEFAULT_TRACE)
    return _chosen(model, [*options, default], workload, target)


def _novelty(
    model: BaseModel | None, unscheduled: Any, workload: Workload, target: Target
) -> float:
    """Return how far a task is from all that a model learnt; infinite where it cannot tell."""
    if model is None or not model.knows_latency:
        return math.inf
    row = extract([unscheduled], workload=workload, target=target)
    return float(model.estimate(row).novelty[0])


def _adapted(space: Space, neighbours: Sequence[Neighbour]) -> list[_Option]:
    """Move the neighbours' traces to this workload, nearest first; equal ones once."""
    found: dict[str, _Option] = {}
    for neighbour in neighbours:
        applied = space.adapt(neighbour.trace, seed=1)
        if applied is not None:
            option = _option(applied.schedule, neighbour)
            found.setdefault(option.trace, option)
    return list(found.values())


def _option(schedule: Any, neighbour: Neighbour | None = None) -> _Option:
    trace = traces.canonical_trace(schedule.trace)
    return _Option(schedule=schedule, trace=trace, neighbour=neighbour)


def _scaled(option: _Option, workload: Workload, target: Target) -> Answer:
    """Tell the nearest neighbour's latency, scaled by what the rooflines say."""
    assert option.neighbour is not None
    theirs = describe_task(convert.workload_from_wire(option.neighbour.workload), target)
    mine = describe_task(workload, target)
    secs = option.neighbour.latency_secs * mine.roofline_secs / theirs.roofline_secs
    return Answer(
        tier=Tier.NEIGHBOUR,
        trace=option.trace,
        latency_secs=secs,
        latency_interval_secs=(secs / _NEIGHBOUR_FACTOR, secs * _NEIGHBOUR_FACTOR),
        neighbour_record_id=option.neighbour.record_id,
        model_version=None,
    )


def _chosen(
    model: BaseModel, options: Sequence[_Option], workload: Workload, target: Target
) -> Answer:
    """Let the model choose; the last option, the compiler's default, only where no other may work.

    The model has seen no program without a schedule, so it does not tell how fast that is.
    """
    rows = extract([item.schedule for item in options], workload=workload, target=target)
    estimates = model.estimate(rows)
    ahead = [_CLEARLY if option.neighbour is not None else 0.0 for option in options]
    works = estimates.validity >= _LEAST_VALIDITY
    scores = np.where(works, model.predict(rows) + np.array(ahead, dtype=np.float32), -math.inf)
    scores[-1] = np.finfo(np.float32).min
    chosen = int(np.argmax(scores))
    option = options[chosen]
    tier = Tier.NEIGHBOUR if option.neighbour is not None else Tier.PREDICTED
    return Answer(
        tier=Tier.DEFAULT if option.trace == DEFAULT_TRACE else tier,
        trace=option.trace,
        latency_secs=float(estimates.latency_secs[chosen]),
        latency_interval_secs=(
            float(estimates.low_secs[chosen]),
            float(estimates.high_secs[chosen]),
        ),
        neighbour_record_id=option.neighbour.record_id if option.neighbour else None,
        model_version=model.version,
    )
