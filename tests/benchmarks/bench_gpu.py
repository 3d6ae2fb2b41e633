"""`make bench-gpu`: tuned kernels on a GPU beside PyTorch, the stock space and DLight.

Run as ``python -m tests.benchmarks.bench_gpu`` on a machine with an NVIDIA GPU, nvcc or NVRTC, and
PyTorch; it needs no network. ``--secs`` bounds it: what was finished is remembered, and a later run
goes on there. QUICK=1 runs three cases with few trials.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import exp, log
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.gpu.cases import Case, cases
from tests.benchmarks.report import Checkpoint, Table, publish
from tests.processes import free_port
from tuner.client.sdk import Client

TRIALS, QUICK_TRIALS = 96, 16
START_SECS = 90.0
RIVAL_SECS = 400.0
OWN_SPACE, STOCK = "default", "stock"

TEXT = """
Every workload is a job of {trials} trials over REST, to a server and a worker daemon on the GPU's
machine; what is given is the published best: the median of the interleaved re-measurement, its
output compared with NumPy's (operators) or with the unscheduled program's on the CPU (fused
programs). The default is DLight, re-measured in the same rounds. "Stock" is the same number of
trials in TVM's own space, by the same search on a server of its own that knows nothing else.

PyTorch runs in the same session on the same GPU: eager, and `torch.compile` with max-autotune
(without graphs, which would copy the inputs); its time is the median of 15 repeats of at least
20 ms, between device events, as for our kernels. All kernels find the caches as the call before
left them; tensors are larger than the second level, but the convolution's. The ceiling for
bandwidth is a copy of 2 GiB, reads and writes counted. A dash is what there was no time for.
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is known of one case; None where it was not run or did not work."""

    case: Case
    tuned: dict[str, Any] | None
    stock: dict[str, Any] | None
    rival: dict[str, Any] | None

    @property
    def tuned_secs(self) -> float | None:
        """The published latency."""
        return self.tuned.get("latency_secs") if self.tuned else None

    @property
    def torch_secs(self) -> float | None:
        """PyTorch's better time."""
        times = (
            [self.rival.get(name) for name in ("eager_secs", "compiled_secs")] if self.rival else []
        )
        return min((secs for secs in times if secs is not None), default=None)


class Deadline:
    """When no new part is begun."""

    def __init__(self, secs: float) -> None:
        self._at = time.monotonic() + secs

    @property
    def left_secs(self) -> float:
        """Seconds until then."""
        return self._at - time.monotonic()


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; return 0 if every part of it was run."""
    parser = argparse.ArgumentParser(prog="bench_gpu", description=__doc__)
    parser.add_argument("--secs", type=float, default=3000.0, help="begin nothing after so long")
    parser.add_argument("--device", default="cuda:0", help="which GPU [default: cuda:0]")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run finished")
    parser.add_argument("--trials", type=int, help=f"of each job [default: {TRIALS}]")
    options = parser.parse_args(arguments)
    quick = bool(os.environ.get("QUICK"))
    trials = options.trials or (QUICK_TRIALS if quick else TRIALS)
    chosen, deadline = cases(quick), Deadline(options.secs)
    checkpoint = Checkpoint("bench-gpu", quick=quick, fresh=options.fresh)
    print(f"{len(chosen)} cases, {options.secs:.0f} s at most", file=sys.stderr, flush=True)
    rivals = checkpoint.part(
        "torch", partial(_rivals, ["ceilings", *(case.name for case in chosen)])
    )
    ceilings = rivals["ceilings"]
    if "error" in ceilings:
        # Where PyTorch does not run, nothing else is worth the GPU's time.
        raise SystemExit(f"PyTorch does not run on a GPU here: {ceilings['error']}")
    # Each on a server of its own, which has seen no other space.
    tuned, stock = (
        _jobs(checkpoint, chosen, deadline, space, trials, options.device)
        for space in (OWN_SPACE, STOCK)
    )
    found = [
        Found(
            case=case,
            tuned=tuned.get(case.name),
            stock=stock.get(case.name),
            rival=rivals.get(case.name),
        )
        for case in chosen
    ]
    tried = [len(part) == len(chosen) for part in (tuned, stock)]
    publish(
        "bench-gpu",
        title="Kernels on a GPU",
        text=TEXT.format(trials=trials),
        tables=[_times(found), _rates(found, ceilings)],
        keys={**_keys(found, ceilings), "complete": all(tried), "failed": _failed(found)},
        quick=quick or not tried[0],
    )
    return 0 if all(tried) else 1


def _jobs(
    checkpoint: Checkpoint,
    chosen: Sequence[Case],
    deadline: Deadline,
    space: str,
    trials: int,
    device: str,
) -> dict[str, Any]:
    """Run the jobs that there is time for; a known one takes none. Return the results by case."""
    found: dict[str, Any] = {}
    with _services(device) as service:

        def tune(case: Case) -> dict[str, Any]:
            return _tuned(service(), case, space, deadline, trials=trials)

        for case in chosen:
            key = f"{space}: {case.name}"
            if checkpoint.has(key) or deadline.left_secs > 0:
                found[case.name] = checkpoint.part(key, partial(tune, case))
                print(f"{key}: {deadline.left_secs:.0f} s left", file=sys.stderr, flush=True)
    return found


@contextmanager
def _services(device: str) -> Iterator[Callable[[], Client]]:
    """Give a client of a server with a worker, both started when it is first asked for."""
    with ExitStack() as stack:
        clients: list[Client] = []

        def service() -> Client:
            if not clients:
                clients.append(stack.enter_context(_service(device)))
            return clients[0]

        yield service


def _tuned(
    client: Client, case: Case, space: str, deadline: Deadline, *, trials: int
) -> dict[str, Any]:
    started = time.monotonic()
    # The finals come on top, so a job that is cut short still publishes something.
    job = client.submit(
        case.workload(), trials=trials, seconds=max(30.0, deadline.left_secs), space=space
    )
    try:
        best = job.wait()
    except Exception as error:
        # A case without a best is a result too; the rest goes on.
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    view = job.refresh().view
    return {
        "latency_secs": best.latency_secs,
        "default_secs": best.default_latency_secs,
        "tier": best.tier,
        "verified": best.verified,
        "trials": view.trials_done,
        "failures": dict(view.failures),
        "wall_secs": time.monotonic() - started,
        "environment": best.environment,
    }


def _rivals(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Time PyTorch; a case that ends its process has an error, and the others go on in another."""
    found: dict[str, dict[str, Any]] = {}
    while len(found) < len(names):
        left = names[len(found) :]
        command = [sys.executable, "-m", "tests.benchmarks.gpu.rival", *left]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=RIVAL_SECS, check=False
            )
            output, error = done.stdout, done.stderr.strip()[-500:]
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode()
            error = f"no answer within {RIVAL_SECS:.0f} s"
        answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        found.update(zip(left, answers, strict=False))
        if len(answers) < len(left):
            found[left[len(answers)]] = {"error": error}
    return found


# --- the service ---------------------------------------------------------------------------------


@contextmanager
def _service(device: str) -> Iterator[Client]:
    """A server and a worker of their own, both ended afterwards."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunesmith-gpu-")))
        serve = ["serve", "--port", str(port), "--data-dir", str(folder / "data")]
        server = stack.enter_context(_process(serve, folder / "server.log"))
        _await(lambda: httpx.get(f"{url}/readyz").status_code == 200, server)
        work = ["worker", "--server", url, "--device", device, "--state-dir", str(folder / "state")]
        worker = stack.enter_context(_process(work, folder / "worker.log"))
        client = stack.enter_context(Client(url))
        _await(lambda: bool(list(client.workers())), worker)
        yield client


@contextmanager
def _process(arguments: Sequence[str], log: Path) -> Iterator[tuple[Any, Path]]:
    command = [sys.executable, "-c", "from tuner.cli import main; main()", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process, log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(log.read_text(errors="replace")[-1500:], file=sys.stderr)


def _await(ready: Any, running: tuple[Any, Path]) -> None:
    process, log = running
    deadline = time.monotonic() + START_SECS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{' '.join(process.args[3:5])} does not run: {log.read_text()[-2000:]}")


# --- the report ----------------------------------------------------------------------------------


def _times(found: Sequence[Found]) -> Table:
    def row(item: Found) -> list[str]:
        tuned, rival, stock = item.tuned or {}, item.rival or {}, item.stock or {}
        return [
            item.case.name,
            _micro(tuned.get("latency_secs")),
            _micro(tuned.get("default_secs")),
            _micro(stock.get("latency_secs")),
            _micro(rival.get("eager_secs")),
            _micro(rival.get("compiled_secs")),
            _ratio(item.torch_secs, item.tuned_secs),
            "yes" if tuned.get("verified") else "no",
        ]

    columns = ["workload", "tuned", "DLight", "stock", "eager", "compiled", "vs torch", "verified"]
    return Table(title="Microseconds", columns=columns, rows=[row(item) for item in found])


def _rates(found: Sequence[Found], ceilings: dict[str, Any]) -> Table:
    peak = ceilings.get("bytes_per_sec")

    def row(item: Found) -> list[str]:
        secs, tuned = item.tuned_secs, item.tuned or {}
        moved = item.case.moved_bytes / secs if secs else None
        return [
            item.case.name,
            f"{item.case.flops / secs / 1e12:.1f}" if secs else "-",
            f"{moved / 1e9:.0f}" if moved else "-",
            f"{moved / peak:.0%}" if moved and peak else "-",
            str(tuned.get("trials", "-")),
            " ".join(f"{kind} {count}" for kind, count in tuned.get("failures", {}).items()) or "-",
            f"{tuned['wall_secs']:.0f}" if "wall_secs" in tuned else "-",
        ]

    columns = ["workload", "TFLOP/s", "GB/s", "of a copy", "trials", "failed", "seconds"]
    return Table(title="Rates", columns=columns, rows=[row(item) for item in found])


def _keys(found: Sequence[Found], ceilings: dict[str, Any]) -> dict[str, object]:
    memory = [(item.torch_secs, item.tuned_secs) for item in found if item.case.memory_bound]
    cublas = [
        ((item.rival or {}).get("eager_secs"), item.tuned_secs)
        for item in found
        if "cublas" in item.case.tags
    ]
    stock = [(item.stock.get("latency_secs"), item.tuned_secs) for item in found if item.stock]
    return {
        "device": ceilings.get("device"),
        "vs_torch_memory_bound_geomean": _geomean(memory),
        "matmul_vs_cublas": _geomean(cublas),
        "vs_stock_geomean": _geomean(stock),
        "stock_cases": len(stock),
    }


def _failed(found: Sequence[Found]) -> list[str]:
    return [
        f"{item.case.name}: {part['error']}"
        for item in found
        for part in (item.tuned, item.stock, item.rival)
        if part and "error" in part
    ]


def _geomean(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Return the mean ratio of first to second; None unless every pair is known."""
    logs = [log(first / second) for first, second in pairs if first and second]
    return exp(sum(logs) / len(logs)) if logs and len(logs) == len(pairs) else None


def _micro(secs: float | None) -> str:
    return f"{secs * 1e6:.1f}" if secs else "-"


def _ratio(first: float | None, second: float | None) -> str:
    return f"{first / second:.2f}x" if first and second else "-"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
