"""Sites of a design and the steps between their decisions."""

from math import prod

import pytest

from tuner.search.sites import Choice, Sampled, Tile


@pytest.mark.parametrize("factors", [(512, 1, 1, 1), (3, 5, 7), (1, 49), (12, 1, 4)])
def test_steps_of_a_tile_keep_its_extent(factors):
    steps = Tile().neighbours(factors)
    assert steps
    assert len(set(steps)) == len(steps)
    assert factors not in steps
    assert {prod(step) for step in steps} == {prod(factors)}
    assert all(
        sum(one != other for one, other in zip(step, factors, strict=True)) == 2 for step in steps
    )


def test_steps_of_a_tile_respect_the_limit_of_the_innermost_factor():
    assert max(step[-1] for step in Tile(innermost_limit=8).neighbours((64, 4))) == 8
    assert Tile(innermost_limit=4).neighbours((1, 4)) == ((2, 2), (4, 1))


def test_steps_of_a_choice_are_all_other_values():
    assert Choice(values=(2, 4, 8)).neighbours(4) == (2, 8)


def test_where_there_is_no_choice_there_are_no_steps():
    assert Choice(values=(0,)).neighbours(0) == ()
    assert Tile().neighbours((1, 1)) == ()
    assert Tile().neighbours((7,)) == ()


def test_what_only_tvm_knows_is_sampled_anew():
    assert Sampled().neighbours(3) == (None,)
