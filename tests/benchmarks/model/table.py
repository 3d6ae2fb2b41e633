"""The corpus as two models see it: our feature rows, and the stores that TVM's own model learns.

Both are extracted once for each trial and kept in a file beside the corpus.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm_ffi
from tvm.s_tir import meta_schedule
from tvm.target import Target as TvmTarget

from cost_model.columns import FEATURE_NAMES, FEATURE_VERSION
from cost_model.dataset import Dataset, group_of
from cost_model.features import extract
from schedules.errors import InvalidTraceError
from schedules.ir import module_of, workload_from_call
from schedules.trace import replay
from tests.benchmarks.model.corpus import FILE, Entry, read

Stores = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The trials of the corpus that have features.

    Attributes
    ----------
    dataset : Dataset
        Our rows.
    stores : sequence of numpy.ndarray
        TVM's: float32, one row for each buffer store, for each trial.
    costs : numpy.ndarray
        Seconds as TVM's model takes them: the bound where there is only one, 1e10 for failures.
    names : dict of int to str
        The call of each group.
    operators, dtypes : dict of int to str
        Its operator, and its type.
    """

    dataset: Dataset
    stores: Sequence[Stores]
    costs: npt.NDArray[np.float32]
    names: dict[int, str]
    operators: dict[int, str]
    dtypes: dict[int, str]


def load(path: Path = FILE) -> Table:
    """Read the corpus and extract what is not extracted yet."""
    entries = read(path)
    kept = path.with_suffix(f".features-{FEATURE_VERSION}.npz")
    known = _read(kept)
    fresh = [entry for entry in entries if _key(entry) not in known]
    for call, group in groupby(sorted(fresh, key=lambda item: item.call.key), lambda e: e.call):
        part = list(group)
        print(f"features of {len(part)} trials of {call}", file=sys.stderr, flush=True)
        known |= _extract(part)
        _write(kept, known)
    return _table(entries, known)


_Known = dict[str, tuple[Stores, Stores] | None]
"""Our row and TVM's stores, by trial; None where the trace does not apply."""


def _read(path: Path) -> _Known:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        ends = kept["ends"]
        parts = np.split(kept["stores"], ends[:-1])
        return {
            str(key): (row, part) if applies else None
            for key, row, part, applies in zip(
                kept["keys"], kept["rows"], parts, kept["applies"], strict=True
            )
        }


def _write(path: Path, known: _Known) -> None:
    none = (np.zeros(len(FEATURE_NAMES), dtype=np.float32), np.zeros((0, 164), dtype=np.float32))
    found = [item or none for item in known.values()]
    np.savez(
        path,
        keys=np.array(list(known)),
        applies=np.array([item is not None for item in known.values()]),
        rows=np.stack([row for row, _ in found]),
        stores=np.concatenate([stores for _, stores in found]),
        ends=np.cumsum([len(stores) for _, stores in found]),
    )


def _key(entry: Entry) -> str:
    return f"{entry.call.key} {entry.candidate.trace_id}"


def _extract(entries: Sequence[Entry]) -> _Known:
    workload = workload_from_call(entries[0].call)
    target = entries[0].target
    module = module_of(workload)
    found: _Known = {}
    schedules: dict[str, Any] = {}
    for entry in entries:
        try:
            schedules[_key(entry)] = replay(entry.candidate.trace, module)
        except InvalidTraceError:
            found[_key(entry)] = None
    rows = extract(list(schedules.values()), workload=workload, target=target)
    extractor = meta_schedule.feature_extractor.PerStoreFeature()
    context = tvm_ffi.get_global_func("s_tir.meta_schedule.TuneContext")(
        None, TvmTarget(target.as_dict()), None, None, "stores", 1, -1, None
    )
    for (key, schedule), row in zip(schedules.items(), rows, strict=True):
        try:
            candidate = meta_schedule.MeasureCandidate(schedule, [])
            stores = extractor.extract_from(context, [candidate])[0].numpy().astype(np.float32)
        except Exception:
            stores = np.zeros((0, 164), dtype=np.float32)
        found[key] = (row, stores)
    return found


def _table(entries: Sequence[Entry], known: _Known) -> Table:
    parts, stores, costs = [], [], []
    names: dict[int, str] = {}
    operators: dict[int, str] = {}
    dtypes: dict[int, str] = {}
    for entry in entries:
        features = known[_key(entry)]
        if features is None or not len(features[1]):
            continue
        group = group_of(entry.call.key, entry.target.target_id)
        part = Dataset.from_results(features[0][None, :], [entry.result], group=group)
        if not len(part):
            continue
        names[group], operators[group] = str(entry.call), entry.call.op
        dtypes[group] = entry.call.dtype
        parts.append(part)
        stores.append(features[1])
        secs = entry.result.latency_secs or entry.result.censored_secs
        costs.append(1e10 if secs is None else secs)
    return Table(
        dataset=Dataset.empty(len(FEATURE_NAMES)).extended(*parts),
        stores=stores,
        costs=np.array(costs, dtype=np.float32),
        names=names,
        operators=operators,
        dtypes=dtypes,
    )
