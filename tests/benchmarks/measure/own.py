"""Our side, each part in a process of its own, as a user would have it.

Run as ``python -m tests.benchmarks.measure.own ORDER`` with JSON on standard input; prints one line
of JSON. ``tune`` is a whole session; ``sample`` gives traces of the stock space; ``measure`` times
given traces; ``race`` lets batches of them race, in given orders; ``final`` re-measures traces.
"""

import json
import sys
import time
from typing import Any

from schedules.operators import find_operator
from schedules.records import Candidate, MeasureResult, Purpose, default_candidate, trace_id
from schedules.target import Target
from schedules.workload import Workload
from tests.benchmarks.measure.cases import CORE_SPEED
from tuner.embedded import tune
from tuner.measure.local import LocalMeasurer
from tuner.measure.protocol import MeasureBatch
from tuner.search.local import LocalSearch
from tuner.session import BATCH_SIZE

Given = dict[str, Any]


def main() -> None:
    """Answer the order."""
    given = json.loads(sys.stdin.read())
    orders = {
        "tune": _tune,
        "sample": _sample,
        "measure": _measure,
        "race": _race,
        "final": _final,
    }
    print(json.dumps(orders[sys.argv[1]](given)))


def _tune(given: Given) -> Given:
    best = tune(
        given["op"], given["args"], trials=given["trials"], space="stock", seed=given["seed"]
    )
    if best is None:
        return {"trace": None, "latency_secs": None}
    speed = best.environment.facts.get(CORE_SPEED)
    return {"trace": best.trace, "latency_secs": best.latency_secs, CORE_SPEED: speed}


def _sample(given: Given) -> Given:
    with LocalMeasurer() as measurer:
        workload, target = _resolved(measurer, given)
        with LocalSearch(
            workload=workload, target=target, space="stock", seed=given["seed"]
        ) as search:
            found = search.ask(given["count"])
    return {"traces": [item.trace for item in found], "target": target.as_dict()}


def _measure(given: Given) -> Given:
    """Measure traces in batches as a session does, each against the best of those before."""
    with LocalMeasurer() as measurer:
        workload, target = _resolved(measurer, given)
        started = time.perf_counter()
        latencies: list[float | None] = []
        for start in range(0, len(given["traces"]), BATCH_SIZE):
            part = given["traces"][start : start + BATCH_SIZE]
            known = [secs for secs in latencies if secs is not None]
            results = _run(measurer, workload, target, part, min(known, default=None))
            latencies += [result.latency_secs for result in results]
        wall_secs = time.perf_counter() - started
    return {"run_secs": latencies, "wall_secs": wall_secs}


def _race(given: Given) -> Given:
    """Race the traces in each of the orders; give what the protocol made of each."""
    with LocalMeasurer() as measurer:
        workload, target = _resolved(measurer, given)
    found = []
    for order in given["orders"]:
        # A host of its own each time: it remembers what it has measured.
        with LocalMeasurer() as measurer:
            part = [given["traces"][place] for place in order]
            results = _run(measurer, workload, target, part, None)
            found.append([result.latency_secs for result in results])
    return {"latencies": found}


def _final(given: Given) -> Given:
    """Re-measure traces interleaved, as before publishing."""
    with LocalMeasurer() as measurer:
        workload, target = _resolved(measurer, given)
        results = _run(measurer, workload, target, given["traces"], None, Purpose.FINAL)
    return {
        "latencies": [result.latency_secs for result in results],
        "noise": [result.conditions.get("noise") for result in results],
        CORE_SPEED: results[-1].conditions.get(CORE_SPEED),
    }


def _resolved(measurer: LocalMeasurer, given: Given) -> tuple[Workload, Target]:
    target, _ = measurer.describe()
    return measurer.resolve(find_operator(given["op"]).call(given["args"])), target


def _run(
    measurer: LocalMeasurer,
    workload: Workload,
    target: Target,
    traces: list[str],
    incumbent_secs: float | None,
    purpose: Purpose = Purpose.TRIAL,
) -> list[MeasureResult]:
    default = default_candidate()
    batch = MeasureBatch(
        workload=workload,
        target=target,
        candidates=tuple(
            default if trace == default.trace else Candidate(trace=trace, trace_id=trace_id(trace))
            for trace in traces
        ),
        purpose=purpose,
        incumbent_secs=incumbent_secs,
    )
    results = dict(measurer.measure(batch))
    return [results[place] for place in range(len(traces))]


if __name__ == "__main__":
    main()
