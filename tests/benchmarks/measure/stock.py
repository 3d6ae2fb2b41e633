"""TVM's MetaSchedule as it comes: the rival, in a process of its own.

Run as ``python -m tests.benchmarks.measure.stock ORDER`` with JSON on standard input; prints one
line of JSON. ``tune`` is a whole session; ``measure`` builds and runs given traces by
`LocalBuilder` and `LocalRunner` at their own settings.
"""

import json
import logging
import sys
import tempfile
import time
from statistics import median
from typing import Any

import tvm
from tvm.s_tir import meta_schedule

from schedules import trace as traces
from schedules.ir import module_of, workload_from_call
from schedules.operators import find_operator
from schedules.target import Target


def main() -> None:
    """Answer the order."""
    logging.disable(logging.INFO)
    given = json.loads(sys.stdin.read())
    workload = workload_from_call(find_operator(given["op"]).call(given["args"]))
    target = tvm.target.Target(Target.parse(given["target"]).as_dict())
    orders = {"tune": _tune, "measure": _measure}
    found = orders[sys.argv[1]](module_of(workload), target, given)
    print(json.dumps(found))


def _tune(module: Any, target: Any, given: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="stock-") as directory:
        database = meta_schedule.tune_tir(
            module,
            target=target,
            work_dir=directory,
            max_trials_global=given["trials"],
            seed=given["seed"],
        )
        return {"records": len(database.get_all_tuning_records())}


def _measure(module: Any, target: Any, given: dict[str, Any]) -> dict[str, Any]:
    schedules = [traces.replay(trace, module) for trace in given["traces"]]
    builder, runner = meta_schedule.builder.LocalBuilder(), meta_schedule.runner.LocalRunner()
    started = time.perf_counter()
    built = builder.build(
        [meta_schedule.builder.BuilderInput(schedule.mod, target) for schedule in schedules]
    )
    args_info = meta_schedule.arg_info.ArgInfo.from_entry_func(module, False)
    errors = [str(result.error_msg)[-300:] for result in built if result.error_msg is not None]
    places = [place for place, result in enumerate(built) if result.artifact_path is not None]
    futures = runner.run(
        [
            meta_schedule.runner.RunnerInput(built[place].artifact_path, "cpu", args_info)
            for place in places
        ]
    )
    run_secs: list[float | None] = [None] * len(schedules)
    for place, future in zip(places, futures, strict=True):
        result = future.result()
        if result.error_msg is not None:
            errors.append(str(result.error_msg)[-300:])
        if result.run_secs is not None:
            run_secs[place] = median(float(value) for value in result.run_secs)
    wall_secs = time.perf_counter() - started
    return {"run_secs": run_secs, "wall_secs": wall_secs, "errors": errors}


if __name__ == "__main__":
    main()
