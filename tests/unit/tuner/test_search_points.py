"""Points of real schedule spaces."""

import numpy as np
import pytest

from schedules import trace as traces
from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.target import Target
from tuner.search.points import Space, code_of
from tuner.search.sites import Point

TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})
CASES = [
    ("batch_matmul", {"b": 1, "n": 64, "m": 64, "k": 64}, "stock"),
    ("batch_matmul", {"b": 1, "n": 64, "m": 64, "k": 64}, "default"),
    ("softmax", {"m": 64, "n": 64}, "stock"),
    ("softmax", {"m": 64, "n": 64}, "default"),
]


@pytest.fixture(params=CASES, ids=[f"{op}-{space}" for op, _, space in CASES])
def case(request):
    op, args, name = request.param
    workload = workload_from_call(find_operator(op).call(args))
    return workload, Space(workload=workload, target=TARGET, space=name, seed=1)


def applied(space, count, seed=1):
    points = (space.open_point(number % len(space)) for number in range(count))
    found = (space.apply(point, seed + number) for number, point in enumerate(points))
    return [item for item in found if item is not None]


def test_a_trace_leads_back_to_its_point_and_its_program(case):
    workload, space = case
    for item in applied(space, 2 * len(space)):
        trace = traces.canonical_trace(item.schedule.trace)
        assert space.find(trace) == item.point
        assert code_of(traces.replay(trace, module_of(workload))) == item.code


def test_a_point_and_its_decisions_make_the_same_program(case):
    _, space = case
    for item in applied(space, len(space)):
        again = space.apply(item.point, seed=99)
        assert again is not None
        assert (again.point, again.code) == (item.point, item.code)


def test_an_equal_seed_samples_an_equal_point(case):
    _, space = case
    assert [item.point for item in applied(space, 4)] == [item.point for item in applied(space, 4)]


def test_a_neighbour_differs_in_one_decision(case):
    _, space = case
    [item, *_] = applied(space, 1)
    neighbours = list(space.neighbours(item.point))
    assert neighbours
    for neighbour in neighbours:
        pairs = zip(item.point.decisions, neighbour.decisions, strict=True)
        assert sum(one != other for one, other in pairs) == 1


def test_a_mutant_is_a_neighbour(case):
    _, space = case
    [item, *_] = applied(space, 1)
    mutant = space.mutated(item.point, np.random.default_rng(1))
    assert mutant in set(space.neighbours(item.point))


def test_decisions_that_do_not_fit_are_refused_or_mended_never_raised(case):
    _, space = case
    [item, *_] = applied(space, 1)
    absurd = Point(design=item.point.design, decisions=(10**6,) * len(item.point.decisions))
    assert space.apply(absurd, 1) is None


def test_a_trace_of_another_space_has_no_point(case):
    _, space = case
    assert space.find("[[],[]]") is None
    assert space.find('[[["GetSBlock",[],["elsewhere","main"],["b0"]]],[]]') is None
