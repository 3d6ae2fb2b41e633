"""What a warm search knows: the corpus of `make bench-model`, without the workload it is for."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from cost_model.base_model import BaseModel
from cost_model.dataset import group_of
from schedules.ir import workload_from_call
from schedules.operators import find_operator
from schedules.workload import OperatorCall, Workload
from tests.benchmarks.measure.cases import Case
from tests.benchmarks.model.corpus import Entry, read
from tests.benchmarks.model.table import Table, load
from tests.benchmarks.report import ROOT
from tuner.learning.neighbours import nearest

FOLDER = ROOT / "build" / "benchmarks" / "search"


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What is known before a search.

    Attributes
    ----------
    base : str
        File of the base model.
    neighbours : list of str
        Canonical traces of the nearest workloads' fastest trials, nearest first.
    corpus_trials : int
        So many trials it was learnt from.
    """

    base: str
    neighbours: list[str]
    corpus_trials: int


def gather(case: Case) -> Knowledge:
    """Learn from all of the corpus but the records of one workload."""
    call = find_operator(case.op).call(case.args)
    entries = [entry for entry in _entries() if entry.call.key != call.key]
    base = FOLDER / f"base-{case.name}.bin"
    base.parent.mkdir(parents=True, exist_ok=True)
    base.write_bytes(_base_without(call).to_bytes())
    near = nearest(workload_from_call(call), _fastest(call, entries))
    return Knowledge(
        base=str(base),
        neighbours=[entry.candidate.trace for _, entry in near],
        corpus_trials=len(entries),
    )


@cache
def _entries() -> list[Entry]:
    return read()


@cache
def _table() -> Table:
    return load()


def _base_without(call: OperatorCall) -> BaseModel:
    dataset = _table().dataset
    own = {group_of(call.key, entry.target.target_id) for entry in _entries()}
    base = BaseModel(threads=2)
    base.fit(dataset.rows(~np.isin(dataset.groups, sorted(own))))
    return base


def _fastest(call: OperatorCall, entries: list[Entry]) -> list[tuple[Workload, Entry]]:
    """Return the fastest trial of each workload of the same operator."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if (entry.call.op, entry.call.dtype) != (call.op, call.dtype) or _secs(entry) is None:
            continue
        known = found.get(entry.call.key)
        if known is None or (_secs(entry) or 0.0) < (_secs(known) or 0.0):
            found[entry.call.key] = entry
    return [(workload_from_call(entry.call), entry) for entry in found.values()]


def _secs(entry: Entry) -> float | None:
    return entry.result.latency_secs
