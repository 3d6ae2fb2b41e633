"""The contract of `tuner.search.SearchStrategy`, over every implementation."""

import json
from collections.abc import Callable
from math import log2

import pytest

from cost_model.xgboost_model import XgbCostModel
from schedules import trace as traces
from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.records import (
    DEFAULT_TRACE,
    Candidate,
    Failure,
    FailureKind,
    MeasureResult,
    trace_id,
)
from schedules.target import Target
from tuner.search import SearchStrategy, Trial
from tuner.search.evolutionary import EvolutionarySearch
from tuner.search.local import LocalSearch, warm_pool
from tuner.search.points import Space

TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})
Make = Callable[..., SearchStrategy]


@pytest.fixture(scope="module")
def workload():
    return workload_from_call(
        find_operator("batch_matmul").call({"b": 1, "n": 64, "m": 64, "k": 64})
    )


@pytest.fixture(scope="module")
def pool():
    # One for all tests: each needs seconds to load the compiler.
    with warm_pool() as pool:
        yield pool


@pytest.fixture(params=["in-process", "pooled"])
def make(request, workload):
    def make(seed: int = 1, workload=workload, neighbours=()) -> SearchStrategy:
        asked = {
            "workload": workload,
            "target": TARGET,
            "space": "stock",
            "seed": seed,
            "neighbours": neighbours,
        }
        if request.param == "in-process":
            return EvolutionarySearch(**asked, model=XgbCostModel(seed=seed))
        return LocalSearch(**asked, pool=request.getfixturevalue("pool"))

    return make


def measured(candidates):
    """Invented but repeatable runtimes; every fourth candidate fails."""
    trials = []
    for number, candidate in enumerate(candidates):
        result = MeasureResult(run_secs=(1e-3 + int(candidate.trace_id[:4], 16) * 1e-7,))
        if number % 4 == 3:
            result = MeasureResult(failure=Failure(kind=FailureKind.RUN_ERROR, detail="invented"))
        trials.append(Trial(candidate=candidate, result=result))
    return trials


def test_proposals_are_distinct_valid_and_never_repeated(make, workload):
    strategy = make()
    seen = set()
    for _ in range(3):
        candidates = strategy.ask(8)
        assert 0 < len(candidates) <= 8
        for candidate in candidates:
            assert candidate.trace_id not in seen
            assert candidate.trace_id == trace_id(candidate.trace)
            seen.add(candidate.trace_id)
        strategy.tell(measured(candidates))
    # Replaying raises where a trace does not apply.
    traces.replay(candidates[0].trace, module_of(workload))


def test_what_others_measured_is_not_proposed(make):
    first = make(seed=3)
    known = first.ask(12)
    second = make(seed=3)
    second.tell(measured(known))
    proposed = {candidate.trace_id for candidate in second.ask(12)}
    assert proposed.isdisjoint(candidate.trace_id for candidate in known)
    assert trace_id(DEFAULT_TRACE) not in proposed


def test_equal_seeds_and_results_make_equal_proposals(make):
    rounds = []
    for _ in range(2):
        strategy = make(seed=5)
        first = strategy.ask(8)
        strategy.tell(measured(first))
        rounds.append([candidate.trace_id for candidate in (*first, *strategy.ask(8))])
    assert rounds[0] == rounds[1]


def test_a_search_begins_with_what_its_neighbours_traces_become_here(make, workload):
    near = workload_from_call(
        find_operator("batch_matmul").call({"b": 1, "n": 96, "m": 32, "k": 80})
    )
    traces_there = [candidate.trace for candidate in make(workload=near).ask(2)]
    space = Space(workload=workload, target=TARGET, space="stock", seed=1)
    here = [space.adapt(trace, seed=1) for trace in traces_there]
    expected = [traces.canonical_trace(item.schedule.trace) for item in here if item is not None]
    assert len(expected) == 2
    strategy = make(neighbours=[*traces_there, traces_there[0]])
    candidates = strategy.ask(6)
    assert [candidate.trace for candidate in candidates[:2]] == expected
    assert len({candidate.trace_id for candidate in candidates}) == 6
    assert not {candidate.trace for candidate in strategy.ask(6)} & set(expected)


@pytest.mark.parametrize("space", ["stock", "default"])
def test_what_is_proposed_does_not_depend_on_threads(workload, space):
    proposals = []
    for threads in (1, 3):
        strategy = EvolutionarySearch(
            workload=workload,
            target=TARGET,
            space=space,
            seed=2,
            model=XgbCostModel(seed=2),
            threads=threads,
        )
        first = strategy.ask(8)
        strategy.tell(measured(first))
        proposals.append(first + strategy.ask(8))
    assert proposals[0] == proposals[1]


def test_candidates_say_which_model_ranked_them_once_there_is_one(make):
    strategy = make()
    first = strategy.ask(8)
    assert {candidate.model_version for candidate in first} == {None}
    strategy.tell(measured(first))
    assert None not in {candidate.model_version for candidate in strategy.ask(24)[8:]}


def test_a_small_space_ends_in_an_empty_answer(make):
    tiny = workload_from_call(find_operator("reduce_sum").call({"m": 1, "n": 1}))
    strategy = make(workload=tiny)
    rounds = 0
    while candidates := strategy.ask(16):
        strategy.tell(measured(candidates))
        rounds += 1
        assert rounds < 50


def test_a_search_that_is_told_all_trials_at_once_goes_on_where_another_stopped(make):
    first = make(seed=7)
    trials = []
    for _ in range(2):
        candidates = first.ask(8)
        trials += measured(candidates)
        first.tell(trials[-len(candidates) :])
    proposals = []
    for _ in range(2):
        rebuilt = make(seed=7)
        rebuilt.tell(trials)
        proposals.append(rebuilt.ask(8))
    assert proposals[0] == proposals[1]
    assert len(proposals[0]) == 8
    told = {trial.candidate.trace_id for trial in trials}
    assert told.isdisjoint(candidate.trace_id for candidate in proposals[0])
    assert all(candidate.model_version is not None for candidate in proposals[0])


def test_traces_of_other_spaces_are_learnt_from_and_those_that_do_not_apply_are_passed_over(make):
    strategy = make(seed=2)
    stray = Candidate(trace=DEFAULT_TRACE, trace_id=trace_id(DEFAULT_TRACE))
    text = '[[["GetSBlock",[],["elsewhere","main"],["b0"]]],[]]'
    broken = Candidate(trace=text, trace_id=trace_id(text))
    # Earlier jobs may have measured the same candidate twice.
    strategy.tell(measured([stray, broken, stray]))
    assert len(strategy.ask(8)) == 8


def test_a_search_ends_when_its_next_batch_should_gain_too_little(pool, workload):
    def trials_of(least_gain):
        strategy = LocalSearch(
            workload=workload,
            target=TARGET,
            space="stock",
            seed=1,
            least_gain=least_gain,
            pool=pool,
        )
        done = 0
        # All alike: after some batches the model knows that there is nothing to find.
        while done < 96 and (candidates := strategy.ask(16)):
            result = MeasureResult(run_secs=(1e-3,))
            strategy.tell([Trial(candidate=item, result=result) for item in candidates])
            done += len(candidates)
        return done

    assert trials_of(None) == 96
    assert trials_of(0.01) == 48


def test_later_batches_are_better_than_the_first(make):
    strategy = make(seed=4)
    medians = []
    for _ in range(5):
        candidates = strategy.ask(16)
        costs = [landscape(candidate) for candidate in candidates]
        medians.append(sorted(costs)[len(costs) // 2])
        strategy.tell(
            [
                Trial(candidate=candidate, result=MeasureResult(run_secs=(cost,)))
                for candidate, cost in zip(candidates, costs, strict=True)
            ]
        )
    assert medians[-1] < 0.7 * medians[0]


def landscape(candidate):
    """Invented runtimes, which depend smoothly on the tile sizes."""
    decisions = [value for _, value in json.loads(candidate.trace)[1] if isinstance(value, list)]
    wanted = {4: (2, 2, 2, 8), 2: (8, 8)}
    misfit = sum(
        abs(log2(factor) - log2(goal))
        for tile in decisions
        for factor, goal in zip(tile, wanted[len(tile)], strict=True)
    )
    return 1e-3 * 2 ** (misfit / 4)
