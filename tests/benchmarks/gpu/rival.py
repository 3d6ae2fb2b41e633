"""PyTorch on the same GPU, timed as candidates are: device events around calls in a row.

Run as ``python -m tests.benchmarks.gpu.rival NAME...``; prints a line of JSON for each case when it
is done. A process of its own, so that its memory and its context are gone when the worker measures.
"""

import gc
import json
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

from tests.benchmarks.gpu.cases import cases
from tuner.measure.timing import FINAL_REPEAT_SECS, calls_per_repeat

REPEATS = 15
_COPY_BYTES = 2 * 2**30


def timed(torch: Any, function: Callable[[], Any]) -> float:
    """Return the median seconds of one call, in repeats as long as those of a final."""

    def run(calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            function()
        end.record()
        end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1e3 / calls

    for _ in range(3):
        function()
    calls = calls_per_repeat(run(1), FINAL_REPEAT_SECS)
    return median(run(calls) for _ in range(REPEATS))


def measure(name: str) -> dict[str, float | str]:
    """Time one case eagerly and compiled; ``ceilings`` gives what the GPU can do at most."""
    import torch

    if name == "ceilings":
        source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        copy_secs = timed(torch, lambda: target.copy_(source))
        return {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "bytes_per_sec": 2 * _COPY_BYTES / copy_secs,
        }
    [case] = [case for case in cases(quick=False) if case.name == name]
    function, inputs = case.torch(torch)
    with torch.inference_mode():
        found: dict[str, float | str] = {"eager_secs": timed(torch, lambda: function(*inputs))}
        try:
            # With graphs the inputs would be copied in each call.
            compiled = torch.compile(function, mode="max-autotune-no-cudagraphs", fullgraph=True)
            found["compiled_secs"] = timed(torch, lambda: compiled(*inputs))
        except Exception as error:
            found["compile_error"] = f"{type(error).__name__}: {error}"[:300]
    return found


def main(names: list[str]) -> None:
    """Time the cases in turn, each in memory that the one before has given back."""
    import torch

    for name in names:
        print(json.dumps(measure(name)), flush=True)
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(sys.argv[1:])
