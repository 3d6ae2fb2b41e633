"""A trace of one workload on another: its design is found again there, its decisions moved.

A trace is full of what its own shape asked for: layouts, padding, register tiles. It is never
replayed elsewhere. The designs of the other workload's space are compared with it by the kinds of
their instructions, and the nearest one is applied with the trace's decisions, each moved to what is
legal there; see `tuner.search.points.Space.adapt`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

_SAMPLING = ("SamplePerfectTile", "SampleCategorical", "SampleComputeLocation")
_LARGEST_DIFFERENCE = 1e9


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What is compared of traces: kinds of instructions, and their constant factors."""

    kinds: tuple[str, ...]
    factors: tuple[float, ...]

    def difference(self, other: "Outline") -> float:
        """Return how far two traces are apart; one kind more or less outweighs any factor."""
        if self.kinds == other.kinds and len(self.factors) == len(other.factors):
            pairs = zip(self.factors, other.factors, strict=True)
            return sum(abs(math.log2(mine / theirs)) for mine, theirs in pairs)
        alike = SequenceMatcher(None, self.kinds, other.kinds, autojunk=False).ratio()
        return _LARGEST_DIFFERENCE * (1.0 - alike) + 1e6


def outline_of(instructions: Sequence[Any]) -> Outline:
    """Return the outline of a canonical trace's instructions, as far as they are the design's."""
    kinds, factors = [], []
    for kind, inputs, *_ in instructions:
        if kind == "EnterPostproc":
            break
        kinds.append(kind)
        if kind in ("Split", "Annotate"):
            factors += [float(item) for item in inputs[1:] if isinstance(item, int) and item > 0]
    return Outline(kinds=tuple(kinds), factors=tuple(factors))


def mover(schedule: Any, trace: Any) -> Callable[..., Any]:
    """Return what tells TVM the decision of each instruction that samples.

    Parameters
    ----------
    schedule : tvm.s_tir.Schedule
        To which a design is applied.
    trace : list
        The canonical trace, in JSON, whose decisions are taken, in their order.
    """
    left: Iterator[tuple[str, Any, Any]] = iter(_decisions(trace))

    def move(instruction: Any, inputs: Any, attributes: Any, decision: Any) -> Any:
        kind = str(instruction.kind.name)
        if kind not in _SAMPLING:
            return decision
        theirs, choices, wanted = next(left, (kind, [], None))
        if theirs != kind or wanted is None:
            return decision
        if kind == "SamplePerfectTile":
            extent = int(schedule.get(inputs[0]).extent)
            limit = int(attributes[1])
            return nearest_tiling(extent, [int(factor) for factor in wanted], limit)
        if kind == "SampleCategorical":
            return nearest_choice([int(value) for value in attributes[0]], int(choices[0][wanted]))
        return wanted

    return move


def nearest_tiling(extent: int, factors: Sequence[int], innermost_limit: int) -> list[int]:
    """Move a tiling to another extent.

    From the innermost factor outwards, each becomes the divisor of what is left that is nearest to
    it in ratio; the outermost one takes the rest.

    Parameters
    ----------
    extent : int
        What the factors have to multiply to.
    factors : sequence of int
        Of another extent, outermost first.
    innermost_limit : int
        The largest innermost factor; 0 or less for any.
    """
    moved = []
    left = extent
    for place, factor in enumerate(reversed(factors[1:])):
        divisors = [number for number in range(1, left + 1) if left % number == 0]
        if place == 0 and innermost_limit > 0:
            divisors = [number for number in divisors if number <= innermost_limit]
        chosen = min(divisors, key=lambda number: abs(math.log2(number / max(factor, 1))))
        moved.append(chosen)
        left //= chosen
    return [left, *reversed(moved)]


def nearest_choice(values: Sequence[int], wanted: int) -> int:
    """Return the place of the value that is nearest to another one in ratio; both from 0 on."""
    return min(
        range(len(values)), key=lambda place: abs(math.log2((values[place] + 1) / (wanted + 1)))
    )


def _decisions(trace: Any) -> list[tuple[str, Any, Any]]:
    """Return the decisions of a trace, after the kinds and attributes of their instructions."""
    by_place = dict(trace[1])
    return [
        (kind, attributes, by_place.get(place))
        for place, (kind, _, attributes, *_) in enumerate(trace[0])
        if kind in _SAMPLING
    ]
