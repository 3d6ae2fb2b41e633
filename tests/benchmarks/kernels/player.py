"""Our side: builds bests and times them on order, as `rival` times PyTorch.

``python -m tests.benchmarks.kernels.player``; TVM_NUM_THREADS is set by whoever starts it.
"""

import json
import sys
from contextlib import nullcontext
from typing import Any

import tvm

from schedules import trace as traces
from schedules import vector_math, verify
from schedules.ir import module_of
from schedules.target import Target
from tests.benchmarks.kernels import peak
from tests.benchmarks.kernels.workloads import workload_of
from tuner.measure.cores import starting_threads


class Player:
    """Holds the kernels of one case at a time."""

    def __init__(self) -> None:
        self._kernels: dict[str, Any] = {}
        self._buffers: list[Any] = []

    def open(
        self, name: str, target: dict[str, object], traces_of: dict[str, str]
    ) -> dict[str, Any]:
        """Build a case's traces: ``ours`` and those of the stock tuner, which knows TVM only."""
        workload = workload_of(name)
        described = tvm.target.Target(Target.parse(target).as_dict())
        self._kernels = {}
        for kind, trace in traces_of.items():
            scheduled = traces.replay(trace, module_of(workload)).mod
            with nullcontext() if kind == "ours" else vector_math.compiler_default():
                self._kernels[kind] = traces.build(scheduled, described)
        self._buffers = [
            tvm.runtime.tensor(value) for value in verify.random_inputs(workload.tensors, seed=0)
        ]
        # As when it was tuned.
        with starting_threads():
            for kernel in self._kernels.values():
                kernel["main"](*self._buffers)
        return {"kinds": list(self._kernels)}

    def time(self, kind: str, calls: int) -> dict[str, Any]:
        """Return the mean seconds of one call; one call goes before."""
        evaluate = self._kernels[kind].time_evaluator("main", tvm.cpu(), number=calls, repeat=1)
        return {"secs": float(evaluate(*self._buffers).results[0])}

    def peak(self, target: dict[str, object]) -> dict[str, Any]:
        """Return the machine's float32 peak; see `tests.benchmarks.kernels.peak`."""
        return {"flops_per_sec": peak.flops_per_sec(Target.parse(target))}


def main() -> None:
    """Answer orders until the input ends."""
    player = Player()
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(player, order.pop("order"))(**order)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
