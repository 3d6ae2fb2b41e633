"""The searches that a process keeps between steps; a cache, see `tuner.search.step`."""

from collections import OrderedDict
from dataclasses import dataclass, field

from cost_model.xgboost_model import XgbCostModel
from schedules.records import Candidate
from schedules.target import Target
from tuner.client import convert
from tuner.learning.shared import base_model
from tuner.search.evolutionary import EvolutionarySearch
from tuner.search.protocol import Trial
from tuner.search.step import StepRequest

WARM_SEARCHES = 8


@dataclass(kw_only=True)
class _Warm:
    search: EvolutionarySearch
    told: set[str] = field(default_factory=set)


_warm: OrderedDict[str, _Warm] = OrderedDict()


def ask(request: StepRequest) -> list[Candidate]:
    """Continue the request's search, or rebuild it from its trials."""
    warm = _warm.get(request.search_id)
    if warm is None:
        warm = _warm[request.search_id] = _Warm(search=_start(request))
    _warm.move_to_end(request.search_id)
    while len(_warm) > WARM_SEARCHES:
        _warm.popitem(last=False)
    fresh = [trial for trial in request.trials if trial.candidate.trace_id not in warm.told]
    warm.search.tell(
        [
            Trial(
                candidate=convert.candidate_from_wire(trial.candidate),
                result=convert.result_from_wire(trial.result),
            )
            for trial in fresh
        ]
    )
    warm.told.update(trial.candidate.trace_id for trial in fresh)
    candidates = warm.search.ask(request.count)
    if request.least_gain is not None:
        gain = warm.search.expected_gain(candidates)
        if gain is not None and gain < request.least_gain:
            return []
    return candidates


def _start(request: StepRequest) -> EvolutionarySearch:
    # The seed moves with the trials: a search that is rebuilt must not repeat its first proposals.
    return EvolutionarySearch(
        workload=convert.workload_from_wire(request.workload),
        target=Target.parse(request.target),
        space=request.space,
        seed=request.seed + len(request.trials),
        neighbours=request.neighbours,
        model=XgbCostModel(base=base_model(request.base_model), seed=request.seed),
        threads=request.threads,
    )
