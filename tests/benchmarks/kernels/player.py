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
        self._kernels: dict[str, tuple[Any, list[Any]]] = {}

    def open(
        self, name: str, target: dict[str, object], traces_of: dict[str, str], with_peak: bool
    ) -> dict[str, Any]:
        """Build a case's traces: ``ours`` and those of the stock tuner, which knows TVM only.

        With ``peak`` beside them, if that is wanted.
        """
        workload = workload_of(name)
        parsed = Target.parse(target)
        described = tvm.target.Target(parsed.as_dict())
        buffers = [
            tvm.runtime.tensor(value) for value in verify.random_inputs(workload.tensors, seed=0)
        ]
        self._kernels = {"peak": peak.kernel(parsed)} if with_peak else {}
        for kind, trace in traces_of.items():
            scheduled = traces.replay(trace, module_of(workload)).mod
            with nullcontext() if kind == "ours" else vector_math.compiler_default():
                self._kernels[kind] = traces.build(scheduled, described), buffers
        # As when it was tuned; threads that share a core would halve the peak.
        with starting_threads():
            for kernel, arguments in self._kernels.values():
                kernel["main"](*arguments)
        return {"kinds": list(self._kernels)}

    def time(self, kind: str, calls: int) -> dict[str, Any]:
        """Return the mean seconds of one call; one call goes before."""
        kernel, arguments = self._kernels[kind]
        evaluate = kernel.time_evaluator("main", tvm.cpu(), number=calls, repeat=1)
        return {"secs": float(evaluate(*arguments).results[0])}


def main() -> None:
    """Answer orders until the input ends."""
    player = Player()
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(player, order.pop("order"))(**order)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
