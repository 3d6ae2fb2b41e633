"""A neighbour's trace on another shape: its design is found again there, its decisions moved.

A trace is full of what its own shape asked for: layouts, padding, register tiles. It is never
replayed elsewhere. The designs of the new workload's own space are compared with it by the kinds of
their instructions, and the nearest one is applied with the trace's decisions, each moved to what is
legal there.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import tvm
import tvm_ffi
from tvm.s_tir import Schedule, meta_schedule

from schedules.ir import module_of
from schedules.space.generators import space_generator
from schedules.target import Target
from schedules.workload import Workload

_SAMPLING = ("SamplePerfectTile", "SampleCategorical", "SampleComputeLocation")
_LARGEST_DIFFERENCE = 1e9


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What is compared of a trace: kinds of instructions, and the constant factors of splits."""

    kinds: tuple[str, ...]
    factors: tuple[float, ...]

    def difference(self, other: "_Shape") -> float:
        """Return how far two traces are apart; one kind more or less outweighs any factor."""
        if self.kinds == other.kinds and len(self.factors) == len(other.factors):
            pairs = zip(self.factors, other.factors, strict=True)
            return sum(abs(math.log2(mine / theirs)) for mine, theirs in pairs)
        alike = SequenceMatcher(None, self.kinds, other.kinds, autojunk=False).ratio()
        return _LARGEST_DIFFERENCE * (1.0 - alike) + 1e6


class Space:
    """The schedule space of a workload, ready to apply designs and decisions.

    Parameters
    ----------
    workload, target : Workload, Target
        What is scheduled, and what for.
    space : str
        Name of the schedule space.
    seed : int
        Of what is sampled.
    """

    def __init__(self, *, workload: Workload, target: Target, space: str, seed: int = 0) -> None:
        self.module = module_of(workload)
        generator = space_generator(space, target)
        # Not by its constructor, which parses every tensor intrinsic that TVM knows first.
        self._context = tvm_ffi.get_global_func("s_tir.meta_schedule.TuneContext")(
            self.module,
            tvm.target.Target(target.as_dict()),
            generator,
            meta_schedule.search_strategy.ReplayTrace(),
            "answers",
            1,
            1 + seed % (2**31 - 2),
            None,
        )
        tvm_ffi.get_global_func("s_tir.meta_schedule.TuneContextInitialize")(self._context)
        self._postprocs = list(self._context.space_generator.postprocs)
        self._designs = list(self._context.generate_design_space())

    def sample(self, count: int) -> list[Any]:
        """Return up to `count` random schedules of the space."""
        self._context.pre_tuning(
            count,
            count,
            self._designs,
            meta_schedule.database.MemoryDatabase(),
            meta_schedule.cost_model.RandomModel(),
        )
        found = [item.sch for item in self._context.generate_measure_candidates() or ()]
        self._context.post_tuning()
        return found

    def adapt(self, trace: str) -> Any | None:
        """Return the schedule that is to this workload what a trace is to its own.

        Parameters
        ----------
        trace : str
            Canonical trace of a neighbour.

        Returns
        -------
        tvm.s_tir.Schedule or None
            None where nothing of this space comes close, or what does cannot be applied.
        """
        if not self._designs:
            return None
        written = json.loads(trace)
        shape = _shape_of_json(written)
        design = min(self._designs, key=lambda item: shape.difference(_shape_of(item.trace))).trace
        schedule = Schedule(self.module)
        try:
            design.apply_to_schedule(
                schedule,
                remove_postproc=True,
                decision_provider=_mover(schedule, _decisions(written)),
            )
            schedule.enter_postproc()
            applied = all(postproc.apply(schedule) for postproc in self._postprocs)
        except Exception:
            # What TVM refuses to apply here is no answer; it raises errors of many kinds.
            return None
        return schedule if applied else None


def _shape_of_json(trace: Any) -> _Shape:
    kinds, factors = [], []
    for kind, inputs, *_ in trace[0]:
        if kind == "EnterPostproc":
            break
        kinds.append(kind)
        if kind == "Split":
            factors += [float(item) for item in inputs[1:] if isinstance(item, int) and item > 0]
    return _Shape(kinds=tuple(kinds), factors=tuple(factors))


def _shape_of(trace: Any) -> _Shape:
    return _shape_of_json(json.loads(json.dumps(_plain(trace.as_json()))))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tvm.tirx.IntImm | tvm.tirx.FloatImm):
        return value.value
    return [_plain(item) for item in value]


def _decisions(trace: Any) -> list[tuple[str, Any]]:
    """Return the decisions of a trace with the kinds of their instructions, in order."""
    by_place = dict(trace[1])
    return [
        (kind, by_place.get(place))
        for place, (kind, *_) in enumerate(trace[0])
        if kind in _SAMPLING
    ]


def _mover(schedule: Any, decisions: Sequence[tuple[str, Any]]) -> Callable[..., Any]:
    """Return what tells TVM the decision of each instruction that samples."""
    left: Iterator[tuple[str, Any]] = iter(decisions)

    def move(instruction: Any, inputs: Any, attributes: Any, decision: Any) -> Any:
        kind = str(instruction.kind.name)
        if kind not in _SAMPLING:
            return decision
        theirs, wanted = next(left, (kind, None))
        if theirs != kind or wanted is None:
            return decision
        if kind == "SamplePerfectTile":
            extent = int(schedule.get(inputs[0]).extent)
            limit = int(attributes[1])
            return nearest_tiling(extent, [int(factor) for factor in wanted], limit)
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
