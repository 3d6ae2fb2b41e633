"""The two shapes in which TVM takes a rule and a mutator written in Python."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import tvm
from tvm.s_tir import meta_schedule

Apply = Callable[[Any, Any], list[Any]]
T = TypeVar("T")

_log = logging.getLogger(__name__)


def applicable(sch: Any, choices: Iterable[T], schedule: Callable[[Any, T], None]) -> list[Any]:
    """Schedule a copy by each choice; one that TVM's primitives refuse is no part of the space."""
    done = []
    for choice in choices:
        design = sch.copy()
        try:
            schedule(design, choice)
        except Exception as error:
            _log.info(
                "A design does not apply to this program",
                extra={"action": "design_refused", "design": choice, "error": str(error)[-300:]},
            )
        else:
            done.append(design)
    return done


@tvm.ir.utils.derived_object
class Rule(meta_schedule.schedule_rule.PyScheduleRule):
    """A schedule rule that is a function of the schedule and a block.

    Parameters
    ----------
    function : callable (schedule, block) -> list of schedules
        Returns ``[schedule]`` where it does not apply. It keeps nothing between calls.
    """

    def __init__(self, function: Apply) -> None:
        super().__init__()
        self._function = function

    def _initialize_with_tune_context(self, context: Any) -> None:
        """Do nothing: what a rule needs to know it is made with."""

    def apply(self, sch: Any, block: Any) -> list[Any]:
        """Apply the rule."""
        return self._function(sch, block)

    def clone(self) -> Any:
        """Return an equal rule."""
        return Rule(self._function)


@tvm.ir.utils.derived_object
class Where(meta_schedule.schedule_rule.PyScheduleRule):
    """A rule of TVM that applies only where a condition on the schedule and the block holds.

    Where it fails it does not apply either: TVM's tiling moves a block's consumer into its loops,
    also one that has other producers, which its own primitive then refuses.

    Parameters
    ----------
    condition : callable (schedule, block) -> bool
        Asked before each application.
    rule : meta_schedule.ScheduleRule
        Owned by this one.
    """

    def __init__(self, condition: Callable[[Any, Any], bool], rule: Any) -> None:
        super().__init__()
        self._condition = condition
        self._rule = rule

    def _initialize_with_tune_context(self, context: Any) -> None:
        """Pass the context on."""
        self._rule._initialize_with_tune_context(context)

    def apply(self, sch: Any, block: Any) -> list[Any]:
        """Apply the rule where the condition holds."""
        if not self._condition(sch, block):
            return [sch]
        before = sch.copy()
        try:
            return list(self._rule.apply(sch, block))
        except Exception as error:
            _log.info(
                "A rule of TVM fails for this program",
                extra={"action": "rule_failed", "error": str(error)[-300:]},
            )
            return [before]

    def clone(self) -> Any:
        """Return an equal rule."""
        return Where(self._condition, self._rule.clone())


@tvm.ir.utils.derived_object
class Unless(meta_schedule.postproc.PyPostproc):
    """A post-processor of TVM that is left out where a condition on the schedule holds.

    Parameters
    ----------
    condition : callable (schedule) -> bool
        Asked before each application.
    postproc : meta_schedule.Postproc
        Owned by this one.
    """

    def __init__(self, condition: Callable[[Any], bool], postproc: Any) -> None:
        super().__init__()
        self._condition = condition
        self._postproc = postproc

    def _initialize_with_tune_context(self, context: Any) -> None:
        """Pass the context on."""
        self._postproc._initialize_with_tune_context(context)

    def apply(self, sch: Any) -> bool:
        """Whether the schedule may be measured."""
        return self._condition(sch) or bool(self._postproc.apply(sch))

    def clone(self) -> Any:
        """Return an equal post-processor."""
        return Unless(self._condition, self._postproc.clone())


@tvm.ir.utils.derived_object
class MutateChoice(meta_schedule.mutator.PyMutator):
    """Draws one sampled choice of a trace anew.

    TVM's own mutators change a categorical decision only where it is an unrolling depth.
    """

    def __init__(self) -> None:
        super().__init__()
        self._random = np.random.default_rng(0)

    def _initialize_with_tune_context(self, context: Any) -> None:
        """Take the seed of the search."""
        self._random = np.random.default_rng(abs(int(context.rand_state)))

    def apply(self, trace: Any, seed: Any = None) -> Any:
        """Return a trace with another decision, None where there is no choice."""
        choices = [
            (instruction, len(instruction.attrs[0]), int(trace.decisions[instruction]))
            for instruction in trace.insts
            if instruction.kind.name == "SampleCategorical" and len(instruction.attrs[0]) > 1
        ]
        if not choices:
            return None
        instruction, count, present = choices[self._random.integers(len(choices))]
        other = (present + 1 + int(self._random.integers(count - 1))) % count
        return trace.with_decision(instruction, other, True)

    def clone(self) -> Any:
        """Return a mutator of its own."""
        return MutateChoice()
