from math import prod

import pytest

from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.target import Target
from schedules.trace import canonical_trace, replay
from tuner.learning.adapt import Space, nearest_tiling

CPU = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})


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
def test_a_tiling_moves_to_the_nearest_divisors(
    extent: int, factors: list[int], limit: int, expected: list[int]
) -> None:
    assert nearest_tiling(extent, factors, limit) == expected
    assert prod(expected) == extent


@pytest.mark.parametrize("space", ["default", "stock"])
def test_a_trace_of_one_shape_becomes_one_of_another(space: str) -> None:
    def matmul(n: int, m: int, k: int) -> Space:
        call = find_operator("matmul").call({"n": n, "m": m, "k": k})
        return Space(workload=workload_from_call(call), target=CPU, space=space, seed=3)

    here, there = matmul(64, 64, 64), matmul(96, 48, 80)
    adapted = [there.adapt(canonical_trace(item.trace)) for item in here.sample(8)]
    found = [schedule for schedule in adapted if schedule is not None]

    assert len(found) >= 6
    for schedule in found:
        trace = canonical_trace(schedule.trace)
        assert "EnterPostproc" in trace
        again = replay(trace, there.module)
        assert again.mod.script() == schedule.mod.script()


def test_the_same_shape_gives_the_same_decisions() -> None:
    call = find_operator("softmax").call({"m": 64, "n": 96})
    space = Space(workload=workload_from_call(call), target=CPU, space="default", seed=3)
    (sample, *_) = space.sample(4)

    adapted = space.adapt(canonical_trace(sample.trace))

    assert adapted is not None
    assert adapted.mod.script() == sample.mod.script()


def test_a_trace_of_nothing_like_it_is_no_answer_or_a_legal_one() -> None:
    call = find_operator("softmax").call({"m": 64, "n": 96})
    softmax = Space(workload=workload_from_call(call), target=CPU, space="default", seed=3)
    call = find_operator("matmul").call({"n": 64, "m": 64, "k": 64})
    matmul = Space(workload=workload_from_call(call), target=CPU, space="default", seed=3)
    (sample, *_) = softmax.sample(1)

    adapted = matmul.adapt(canonical_trace(sample.trace))

    if adapted is not None:
        replay(canonical_trace(adapted.trace), matmul.module)
