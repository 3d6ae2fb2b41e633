"""Which tuned workloads are near to another one: other shapes of its operator."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from schedules.records import Best
from schedules.workload import OperatorCall, Workload

NEIGHBOURS = 4
FARTHEST = 8.0
"""Neighbours differ in their arguments by less than this, in powers of two, all together."""


T = TypeVar("T")


class Bests(Protocol):
    """Where the bests of an operator's shapes are found."""

    def bests_of_operator(
        self, operator: str, dtype: str, target_id: str
    ) -> Sequence[tuple[Workload, Best]]:
        """See `tuner.store.RecordStore`."""
        ...


def find_neighbours(
    bests: Bests, call: OperatorCall | None, target_id: str, *, but_not: str = ""
) -> list[tuple[Workload, Best]]:
    """Return the nearest tuned workloads on a target; see `nearest`. A program has none."""
    if call is None:
        return []
    return nearest(call, bests.bests_of_operator(call.op, call.dtype, target_id), but_not=but_not)


def nearest(
    call: OperatorCall, bests: Iterable[tuple[Workload, T]], *, but_not: str = ""
) -> list[tuple[Workload, T]]:
    """Return the nearest of some workloads, nearest first, with what is best for them.

    Parameters
    ----------
    call : OperatorCall
        To which they are near.
    bests : iterable of (Workload, T)
        Of the same operator and dtype, on one target.
    but_not : str
        Id of a workload that is none: the one that is asked about.
    """
    found = [
        (distance, workload, best)
        for workload, best in bests
        if workload.workload_id != but_not
        and workload.call is not None
        and (distance := _distance(call, workload.call)) < FARTHEST
    ]
    found.sort(key=lambda item: (item[0], item[1].workload_id))
    return [(workload, best) for _, workload, best in found[:NEIGHBOURS]]


def _distance(call: OperatorCall, other: OperatorCall) -> float:
    """Return how much the arguments of two calls differ, in powers of two, all together."""
    return sum(
        abs(math.log2((1 + value) / (1 + other.args.get(name, 0))))
        for name, value in call.args.items()
    )
