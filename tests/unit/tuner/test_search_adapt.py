"""Schedules of one workload on another."""

from itertools import islice
from math import prod

import pytest

from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.target import Target
from schedules.trace import canonical_trace, replay
from tuner.search.adapt import nearest_tiling
from tuner.search.points import Space

CPU = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})


def workload_of(op, **args):
    return workload_from_call(find_operator(op).call(args))


def space_of(workload, space="default"):
    return Space(workload=workload, target=CPU, space=space, seed=3)


def sampled(space, count):
    return list(islice(space.samples(4 * count), count))


@pytest.mark.parametrize(
    ("extent", "factors", "limit", "expected"),
    [
        (64, [4, 4, 8], 64, [2, 4, 8]),
        (12, [16, 1, 16], 64, [1, 1, 12]),
        (100, [8, 8], 64, [10, 10]),
        (7, [8, 8], 64, [1, 7]),
        (64, [1, 32], 16, [4, 16]),
        (64, [1, 32], -1, [2, 32]),
        (1, [4, 4, 4], 64, [1, 1, 1]),
    ],
)
def test_a_tiling_moves_to_the_nearest_divisors(extent, factors, limit, expected):
    assert nearest_tiling(extent, factors, limit) == expected
    assert prod(expected) == extent


@pytest.mark.parametrize("space", ["default", "stock"])
def test_a_trace_of_one_shape_becomes_one_of_another(space):
    other = workload_of("matmul", n=96, m=48, k=80)
    here, there = space_of(workload_of("matmul", n=64, m=64, k=64), space), space_of(other, space)
    adapted = [
        there.adapt(canonical_trace(item.schedule.trace), seed=1) for item in sampled(here, 8)
    ]
    found = [item for item in adapted if item is not None]

    assert len(found) >= 6
    for item in found:
        trace = canonical_trace(item.schedule.trace)
        assert "EnterPostproc" in trace
        assert there.find(trace) == item.point
        assert replay(trace, module_of(other)).mod.script() == item.schedule.mod.script()


def test_the_same_shape_gives_the_same_program():
    space = space_of(workload_of("softmax", m=64, n=96))
    (sample, *_) = sampled(space, 4)

    adapted = space.adapt(canonical_trace(sample.schedule.trace), seed=1)

    assert adapted is not None
    assert adapted.schedule.mod.script() == sample.schedule.mod.script()


def test_a_trace_of_nothing_like_it_is_no_answer_or_a_legal_one():
    matmul = workload_of("matmul", n=64, m=64, k=64)
    (sample, *_) = sampled(space_of(workload_of("softmax", m=64, n=96)), 1)

    adapted = space_of(matmul).adapt(canonical_trace(sample.schedule.trace), seed=1)

    if adapted is not None:
        replay(canonical_trace(adapted.schedule.trace), module_of(matmul))
