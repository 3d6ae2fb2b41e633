"""The corpus: trials of catalogue workloads, measured by this project's own tuner on this machine.

``python -m tests.benchmarks.model.corpus [SECONDS]`` measures until the corpus is whole or the time
is over; what was measured is kept in a file of JSON lines, so that a later run goes on there. The
first batches of a workload are a sample of its space, the rest is what a search that learns
proposes.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schedules.operators import find_operator
from schedules.records import Candidate, MeasureResult, Purpose
from schedules.target import Target
from schedules.workload import OperatorCall, Workload
from tests.benchmarks.report import ROOT
from tuner.client import convert, wire
from tuner.corpus import corpus
from tuner.measure.local import LocalMeasurer
from tuner.measure.protocol import MeasureBatch
from tuner.search.local import LocalSearch, warm_pool
from tuner.search.protocol import Trial
from tuner.session import BATCH_SIZE

FILE = ROOT / "build" / "benchmarks" / "model-corpus.jsonl"
TRIALS = 120
"""Of each workload, where its space has so many."""
SAMPLE_BATCHES = 2
"""So many batches of a workload come from a search that was told nothing: from the space itself."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One trial of the corpus."""

    call: OperatorCall
    target: Target
    candidate: Candidate
    result: MeasureResult

    @property
    def is_timed(self) -> bool:
        """Whether its latency was measured, and not that of a candidate with equal code."""
        return self.result.latency_secs is not None and self.result.duplicate_of is None


def read(path: Path = FILE) -> list[Entry]:
    """Read the corpus as far as it is measured."""
    if not path.exists():
        return []
    return [_entry(json.loads(line)) for line in path.read_text().splitlines()]


def measure(trials: int, seconds: float, path: Path = FILE) -> None:
    """Measure until every workload has so many trials, or the time is over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    calls = {call.key: call for call in corpus()}
    known = read(path)
    done = Counter(entry.call.key for entry in known)
    given_up: set[str] = set()
    deadline = time.monotonic() + seconds
    if all(done[key] >= trials for key in calls):
        return
    with LocalMeasurer() as measurer, warm_pool() as pool, path.open("a") as file:
        target, _ = measurer.describe()
        while time.monotonic() < deadline:
            left = [key for key in calls if done[key] < trials and key not in given_up]
            if not left:
                return
            key = min(left, key=done.__getitem__)
            workload = measurer.resolve(calls[key])
            told = [entry for entry in known if entry.call.key == key]
            search = LocalSearch(
                workload=workload, target=target, space="default", seed=len(told), pool=pool
            )
            if len(told) >= SAMPLE_BATCHES * BATCH_SIZE:
                search.tell([Trial(candidate=item.candidate, result=item.result) for item in told])
            measured = {entry.candidate.trace_id for entry in told}
            asked = [item for item in search.ask(BATCH_SIZE) if item.trace_id not in measured]
            if not asked:
                given_up.add(key)
            for candidate, result in _measured(measurer, workload, target, asked):
                entry = Entry(call=calls[key], target=target, candidate=candidate, result=result)
                known.append(entry)
                done[key] += 1
                file.write(json.dumps(_line(entry)) + "\n")
            file.flush()
            print(f"{sum(done.values())} trials, last of {calls[key]}", file=sys.stderr, flush=True)


def measure_again(most: int, seed: int, path: Path = FILE) -> dict[str, list[tuple[float, float]]]:
    """Measure up to so many trials of each workload a second time.

    Returns
    -------
    dict
        By call, both latencies in seconds, of trials that have two.
    """
    random = np.random.default_rng(seed)
    found: dict[str, list[tuple[float, float]]] = {}
    with LocalMeasurer() as measurer:
        for call, entries in _by_call(read(path)).items():
            timed = [entry for entry in entries if entry.is_timed]
            chosen = [timed[place] for place in random.permutation(len(timed))[:most].tolist()]
            workload = measurer.resolve(chosen[0].call)
            asked = [entry.candidate for entry in chosen]
            first = {entry.candidate.trace_id: entry.result.latency_secs for entry in chosen}
            found[call] = [
                (before, result.latency_secs)
                for candidate, result in _measured(measurer, workload, chosen[0].target, asked)
                if (before := first[candidate.trace_id]) and result.latency_secs
            ]
            print(f"again: {call}", file=sys.stderr, flush=True)
    return found


def _by_call(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(str(entry.call), []).append(entry)
    return found


def _measured(
    measurer: LocalMeasurer, workload: Workload, target: Target, candidates: list[Candidate]
) -> Iterator[tuple[Candidate, MeasureResult]]:
    if not candidates:
        return
    batch = MeasureBatch(
        workload=workload,
        target=target,
        candidates=tuple(candidates),
        purpose=Purpose.TRIAL,
        incumbent_secs=None,
    )
    for place, result in measurer.measure(batch):
        yield candidates[place], result


def _line(entry: Entry) -> dict[str, Any]:
    return {
        "op": entry.call.op,
        "args": dict(entry.call.args),
        "dtype": entry.call.dtype,
        "target": entry.target.as_dict(),
        "candidate": convert.candidate_to_wire(entry.candidate).model_dump(mode="json"),
        "result": convert.result_to_wire(entry.result).model_dump(mode="json"),
    }


def _entry(line: dict[str, Any]) -> Entry:
    return Entry(
        call=find_operator(line["op"]).call(line["args"], line["dtype"]),
        target=Target.parse(line["target"]),
        candidate=convert.candidate_from_wire(wire.CandidateWire.model_validate(line["candidate"])),
        result=convert.result_from_wire(wire.ResultWire.model_validate(line["result"])),
    )


if __name__ == "__main__":
    measure(trials=TRIALS, seconds=float(sys.argv[1]) if len(sys.argv) > 1 else 7200.0)
