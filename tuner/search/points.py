"""Points of a schedule space: designs with a decision at each of their sites."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm.s_tir import Schedule, meta_schedule
from tvm.s_tir.schedule import Trace

from schedules import trace as traces
from schedules.identity import canonical_json
from schedules.ir import module_of
from schedules.space.generators import space_generator
from schedules.target import Target
from schedules.workload import Workload
from tuner.search.adapt import mover, outline_of
from tuner.search.sites import Choice, Decision, Point, Sampled, Site, Tile

_PARALLEL = "meta_schedule.parallel"
_TASKS_PER_CORE = (1, 2, 4, 8, 16)
_END_OF_DESIGN = "EnterPostproc"


@dataclass(frozen=True, kw_only=True, eq=False)
class Applied:
    """A point with the program that it makes.

    Attributes
    ----------
    point : Point
        As applied: nothing is open any more.
    schedule : tvm.s_tir.Schedule
        Post-processed.
    code : int
        Equal for programs that are equal up to names; valid in this process.
    """

    point: Point
    schedule: Any
    code: int


class Space:
    """The designs of a space for one workload and target.

    Several threads may use it at once when it has been made.

    Parameters
    ----------
    seed : int
        Of whatever the space samples while it makes its designs.
    """

    def __init__(self, *, workload: Workload, target: Target, space: str, seed: int) -> None:
        self._module = module_of(workload)
        generator = space_generator(space, target)
        # Rules and post-processors keep what they need to know of the context, but not the context.
        self._context = meta_schedule.TuneContext(
            self._module,
            target=tvm.target.Target(target.as_dict()),
            space_generator=generator,
            # TVM takes 1 to 2**31 - 1 here.
            rand_state=1 + seed % (2**31 - 2),
            num_threads=1,
        )
        self._postprocs = list(self._context.space_generator.postprocs)
        self._designs = [
            _Design(schedule.trace.simplified(True), target.cores)
            for schedule in self._context.generate_design_space()
        ]
        self._by_key = {design.key: number for number, design in enumerate(self._designs)}

    def __len__(self) -> int:
        return len(self._designs)

    def open_point(self, design: int) -> Point:
        """Return the point of a design at which every decision is left to sampling."""
        return Point(design=design, decisions=(None,) * len(self._designs[design].sites))

    def samples(self, attempts: int) -> Iterator[Applied]:
        """Yield random programs, as many of each design; some attempts are refused."""
        for seed in range(1, attempts + 1):
            applied = self.apply(self.open_point(seed % len(self)), seed)
            if applied is not None:
                yield applied

    def neighbours(self, point: Point) -> Iterator[Point]:
        """Yield the points that differ in one decision, by one step."""
        for place, site in enumerate(self._designs[point.design].sites):
            for decision in site.neighbours(point.decisions[place]):
                yield _changed(point, place, decision)

    def mutated(self, point: Point, random: np.random.Generator) -> Point | None:
        """Take a step at one site, drawn at random; None where there is no choice."""
        sites = self._designs[point.design].sites
        for place in random.permutation(len(sites)):
            steps = sites[place].neighbours(point.decisions[place])
            if steps:
                return _changed(point, int(place), steps[int(random.integers(len(steps)))])
        return None

    def apply(self, point: Point, seed: int) -> Applied | None:
        """Make the program of a point.

        Parameters
        ----------
        point : Point
            Decisions that are open are sampled.
        seed : int
            Of the sampling, from 1 to 2**31 - 1.

        Returns
        -------
        Applied or None
            None where TVM refuses the decisions, or a post-processor does.
        """
        return self._apply(point, self._fresh(seed))

    def adapt(self, trace: str, seed: int) -> Applied | None:
        """Make the program that is to this workload what a trace is to its own.

        The design nearest to the trace's is applied, with its decisions moved to what is legal
        here; see `tuner.search.adapt`.

        Parameters
        ----------
        trace : str
            Canonical trace of another workload.
        seed : int
            Of the sampling of what the trace does not say, from 1 to 2**31 - 1.

        Returns
        -------
        Applied or None
            None where TVM refuses that, or a post-processor does.
        """
        written = json.loads(trace)
        outline = outline_of(written[0])
        nearest = min(
            range(len(self)), key=lambda number: outline.difference(self._designs[number].outline)
        )
        schedule = self._fresh(seed)
        return self._apply(self.open_point(nearest), schedule, mover(schedule, written))

    def _fresh(self, seed: int) -> Any:
        return Schedule(self._module, seed=seed, debug_mask="none", error_render_level="none")

    def _apply(
        self, point: Point, schedule: Any, decide: Callable[..., Any] | None = None
    ) -> Applied | None:
        design = self._designs[point.design]
        try:
            design.trace(point.decisions).apply_to_schedule(
                schedule, remove_postproc=True, decision_provider=decide
            )
            schedule.enter_postproc()
            if not all(postproc.apply(schedule) for postproc in self._postprocs):
                return None
        except Exception:
            # TVM has many kinds of refusals; which of them it was makes no difference.
            return None
        return Applied(
            point=Point(design=point.design, decisions=design.decisions_of(schedule.trace)),
            schedule=schedule,
            code=code_of(schedule),
        )

    def find(self, trace: str) -> Point | None:
        """Return the point that a canonical trace stands for; None if it is not of this space."""
        instructions, decisions = json.loads(trace)
        names = [instruction[0] for instruction in instructions]
        if _END_OF_DESIGN in names:
            instructions = instructions[: names.index(_END_OF_DESIGN)]
        number = self._by_key.get(_key(instructions))
        if number is None:
            return None
        chosen = self._designs[number].read(instructions, dict(map(tuple, decisions)))
        return None if chosen is None else Point(design=number, decisions=chosen)


def code_of(schedule: Any) -> int:
    """Return a hash that is equal for programs which are equal up to names, in this process."""
    return int(tvm_ffi.structural_hash(schedule.mod))


def _changed(point: Point, place: int, decision: Decision) -> Point:
    decisions = (*point.decisions[:place], decision, *point.decisions[place + 1 :])
    return Point(design=point.design, decisions=decisions)


class _Design:
    """A trace of a space without its decisions."""

    def __init__(self, trace: Any, cores: int) -> None:
        self._instructions = list(trace.insts)
        self._extents = tuple(count * cores for count in _TASKS_PER_CORE)
        self._places: list[int] = []
        self.sites: list[Site] = []
        for place, instruction in enumerate(self._instructions):
            site = self._site(instruction)
            if site is not None:
                self._places.append(place)
                self.sites.append(site)
        written = json.loads(traces.canonical_trace(trace))[0]
        self.key = _key(written)
        self.outline = outline_of(written)

    def _site(self, instruction: Any) -> Site | None:
        name = instruction.kind.name
        if name == "SamplePerfectTile":
            limit = int(instruction.attrs[1])
            return Tile(innermost_limit=limit if limit > 0 else None)
        if name == "SampleCategorical":
            return Choice(values=tuple(range(len(instruction.attrs[0]))))
        if name == "Annotate" and str(instruction.attrs[0]) == _PARALLEL:
            return Choice(values=self._extents)
        return Sampled() if name.startswith("Sample") else None

    def trace(self, decisions: Sequence[Decision]) -> Any:
        """Return the trace with these decisions."""
        instructions, made = list(self._instructions), {}
        for place, decision in zip(self._places, decisions, strict=True):
            if decision is None:
                continue
            instruction = instructions[place]
            if instruction.kind.name == "Annotate":
                instructions[place] = _annotated(instruction, decision)
            else:
                made[instruction] = decision
        return Trace(instructions, made)

    def decisions_of(self, trace: Any) -> tuple[Decision, ...]:
        """Read the decisions of a trace that came of this design."""
        made, instructions = trace.decisions, trace.insts
        return tuple(
            int(instructions[place].inputs[1])
            if instructions[place].kind.name == "Annotate"
            else _plain(made[instructions[place]])
            for place in self._places
        )

    def read(
        self, instructions: Sequence[Any], made: dict[int, Any]
    ) -> tuple[Decision, ...] | None:
        """Read decisions from a trace in JSON; None if one is missing."""
        found = [
            instructions[place][1][1] if instructions[place][0] == "Annotate" else made.get(place)
            for place in self._places
        ]
        return None if None in found else tuple(map(_plain, found))


def _plain(decision: Any) -> Decision:
    if isinstance(decision, int):
        return decision
    return tuple(map(int, decision)) if hasattr(decision, "__len__") else int(decision)


def _annotated(instruction: Any, value: Decision) -> Any:
    return type(instruction)(
        instruction.kind, [instruction.inputs[0], value], instruction.attrs, instruction.outputs
    )


def _key(instructions: Sequence[Any]) -> str:
    """Identify a design by its instructions, whatever the extent of its parallel loops."""
    masked = [
        [name, [inputs[0], 0], attributes, outputs]
        if name == "Annotate" and attributes == [_PARALLEL]
        else [name, inputs, attributes, outputs]
        for name, inputs, attributes, outputs in instructions
    ]
    return canonical_json(masked)
