"""Real spaces that are small enough to be seen as a whole."""

import numpy as np
import pytest

from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.target import Target
from tuner.search.explored import VAIN, Explored
from tuner.search.points import Applied, Space

TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})
NORM = {"b": 1, "m": 64, "n": 64}


def space_of(op: str, args: dict[str, int], name: str) -> Space:
    workload = workload_from_call(find_operator(op).call(args))
    return Space(workload=workload, target=TARGET, space=name, seed=1)


def explore(space: Space, explored: Explored) -> tuple[list[Applied], int]:
    """Apply all that may be new; return the new programs, and how many points were applied."""
    programs, tries = [], 0
    for point in explored.unseen():
        if explored.try_point(point):
            tries += 1
            applied = space.apply(point, seed=tries)
            if applied is not None and explored.take(applied):
                programs.append(applied)
    return programs, tries


# In the stock space of a norm there are decisions whose range only TVM knows.
@pytest.mark.parametrize(
    ("op", "args", "name"),
    [
        ("reduce_max", {"m": 64, "n": 256}, "default"),
        ("norm", NORM, "default"),
        ("norm", NORM, "stock"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_space_is_seen_as_a_whole_and_then_left_alone(
    op: str, args: dict[str, int], name: str
) -> None:
    space = space_of(op, args, name)
    explored = Explored(space, np.random.default_rng(3))

    programs, _ = explore(space, explored)

    assert {item.code for item in space.samples(300)} <= {item.code for item in programs}
    assert explore(space, explored) == ([], 0)


def test_a_small_space_is_not_sampled_until_nothing_comes_any_more() -> None:
    space = space_of("reduce_max", {"m": 64, "n": 256}, "default")

    programs, tries = explore(space, Explored(space, np.random.default_rng(3)))

    assert len(programs) > 10
    assert tries < VAIN / 4


def test_what_was_made_before_is_not_new() -> None:
    space = space_of("norm", NORM, "stock")
    explored = Explored(space, np.random.default_rng(3))
    known = list(space.samples(40))
    for item in known:
        explored.know(item.point, item.code)

    programs, _ = explore(space, explored)

    assert programs
    assert not {item.code for item in programs} & {item.code for item in known}
