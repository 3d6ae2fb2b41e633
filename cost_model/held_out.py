"""Which tasks a model is judged on: whole shapes, operators and targets that it did not learn.

Who is held out is a matter of its own hash alone, so that the models of any two datasets are
judged on tasks that neither has learnt, and a later one cannot have learnt what an earlier one was
judged on. Where the hash chooses none of several, the one with the smallest hash is held out.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cost_model.dataset import Dataset, group_of
from schedules.errors import ContractError

GATES = ("shape", "operator", "target")
"""What can be held out: single workloads, all of an operator, all of a target."""

_ONE_IN: Mapping[str, int] = {"shape": 5, "operator": 8, "target": 4}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class TaskKey:
    """What a task is, as far as holding out goes.

    Attributes
    ----------
    workload_id, target_id : str
        The task.
    operator : str
        The operator with its dtype, or the workload itself where it has none.
    """

    workload_id: str
    target_id: str
    operator: str

    @property
    def group(self) -> int:
        """The task's group in a `Dataset`."""
        return group_of(self.workload_id, self.target_id)


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """A dataset of many tasks, with what is known of them.

    Raises
    ------
    ContractError
        A group of the dataset has no task.
    """

    dataset: Dataset
    tasks: Sequence[TaskKey]

    def __post_init__(self) -> None:
        unknown = set(np.unique(self.dataset.groups)) - {task.group for task in self.tasks}
        if unknown:
            raise ContractError(f"{len(unknown)} groups of the dataset have no task")

    def held_out(self) -> dict[str, Mask]:
        """Return for each of `GATES` that can be judged the rows of what is held out.

        A shape is only held out where its operator has other shapes, and an operator or a target
        where there are others: what is left must be enough to learn from.
        """
        tasks = [task for task in self.tasks if (self.dataset.groups == task.group).any()]
        names = {
            "shape": _several(
                {task.workload_id for task in tasks if task.operator == operator}
                for operator in {task.operator for task in tasks}
            ),
            "operator": _several([{task.operator for task in tasks}]),
            "target": _several([{task.target_id for task in tasks}]),
        }
        attributes = {"shape": "workload_id", "operator": "operator", "target": "target_id"}
        masks = {}
        for gate, candidates in names.items():
            chosen = _choose(gate, candidates)
            groups = [task.group for task in tasks if getattr(task, attributes[gate]) in chosen]
            masks[gate] = np.isin(self.dataset.groups, groups)
        return {gate: mask for gate, mask in masks.items() if mask.any()}


def _several(sets: Iterable[set[str]]) -> set[str]:
    """Return the members of the sets that have more than one."""
    return {member for names in sets if len(names) > 1 for member in names}


def _choose(gate: str, names: set[str]) -> set[str]:
    if not names:
        return set()
    hashes = {name: _hash(name) for name in names}
    chosen = {name for name, number in hashes.items() if number % _ONE_IN[gate] == 0}
    # Never all, never none.
    if not chosen or len(chosen) == len(names):
        chosen = {min(names, key=hashes.__getitem__)}
    return chosen


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"held out {name}".encode()).digest()[:8], "big")
