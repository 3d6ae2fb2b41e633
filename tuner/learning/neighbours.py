"""Which tuned workloads are near to another one: other shapes of its operator or its program."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from schedules.records import Best
from schedules.workload import OperatorCall, Workload

NEIGHBOURS = 4
FARTHEST = 8.0
"""Neighbours differ in their extents by less than this, in powers of two, all together."""
_PACKING = 1.0
"""How far the same shape lies apart with constants and without: as much as twice an extent."""


T = TypeVar("T")


class Bests(Protocol):
    """Where the bests of workloads of one kind are found."""

    def bests_of_operator(
        self, operator: str, dtype: str, target_id: str
    ) -> Sequence[tuple[Workload, Best]]:
        """See `tuner.store.RecordStore`."""
        ...

    def bests_of_family(self, family_id: str, target_id: str) -> Sequence[tuple[Workload, Best]]:
        """See `tuner.store.RecordStore`."""
        ...


def find_neighbours(
    bests: Bests, workload: Workload, target_id: str
) -> list[tuple[Workload, Best]]:
    """Return the nearest tuned workloads on a target; see `nearest`."""
    call, family_id = workload.call, workload.family_id
    found: list[tuple[Workload, Best]] = []
    if call is not None:
        found += bests.bests_of_operator(call.op, call.dtype, target_id)
    if family_id is not None:
        found += bests.bests_of_family(family_id, target_id)
    return nearest(workload, found)


def has_neighbours(bests: Bests, call: OperatorCall, target_id: str) -> bool:
    """Whether a call has neighbours among its operator's shapes, told without its program."""
    shapes = bests.bests_of_operator(call.op, call.dtype, target_id)
    return any(
        other.call is not None and _distance_of_calls(call, other.call) < FARTHEST
        for other, _ in shapes
    )


def nearest(workload: Workload, bests: Iterable[tuple[Workload, T]]) -> list[tuple[Workload, T]]:
    """Return the nearest of some workloads, nearest first, with what is best for them.

    Parameters
    ----------
    workload : Workload
        To which they are near; it is no neighbour of its own.
    bests : iterable of (Workload, T)
        Shapes of the same operator or of the same family, on one target; some may come twice.
    """
    others = {other.workload_id: (other, best) for other, best in bests}
    others.pop(workload.workload_id, None)
    found = [(_distance(workload, other), other, best) for other, best in others.values()]
    found.sort(key=lambda item: (item[0], item[1].workload_id))
    return [(other, best) for distance, other, best in found[:NEIGHBOURS] if distance < FARTHEST]


def _distance(workload: Workload, other: Workload) -> float:
    """Return how far two shapes lie apart, in powers of two, all their differences together."""
    mine, theirs = workload.call, other.call
    if mine is not None and theirs is not None and mine.op == theirs.op:
        return _distance_of_calls(mine, theirs)
    return _distance_of_tensors(workload, other)


def _distance_of_calls(mine: OperatorCall, theirs: OperatorCall) -> float:
    sizes = sum(
        abs(math.log2((1 + value) / (1 + theirs.args.get(name, 0))))
        for name, value in mine.args.items()
    )
    return sizes + _PACKING * (mine.constants != theirs.constants)


def _distance_of_tensors(workload: Workload, other: Workload) -> float:
    """Compare shapes axis by axis; several axes that differ alike are most likely one extent."""
    pairs = {
        axis
        for tensor, its in zip(workload.tensors, other.tensors, strict=True)
        for axis in zip(tensor.shape, its.shape, strict=True)
    }
    return sum(abs(math.log2(extent / its)) for extent, its in pairs)
