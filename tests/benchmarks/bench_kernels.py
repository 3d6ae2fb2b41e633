"""`make bench-kernels`: tuned kernels beside PyTorch and TVM's own tuner, on this machine's CPU.

Run as ``python -m tests.benchmarks.bench_kernels``. Resumable: every case that was finished is
remembered for this commit, and what TVM's tuner found for this version of TVM, as nothing of ours
takes part in it. QUICK=1 runs four cases without the stock tuner.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import tvm

from schedules.detect import native_target
from schedules.target import Target
from tests.benchmarks.kernels import peak
from tests.benchmarks.kernels.cases import (
    FLOAT32,
    FUSED,
    LOW,
    PEAK_CASES,
    STOCK_1000,
    Case,
    cases,
    quick_cases,
)
from tests.benchmarks.kernels.workloads import workload_of
from tests.benchmarks.report import ROOT, Checkpoint, Table, geomean, publish
from tuner.embedded import tune_workload

PINNED = ("torch==2.13.0", "numpy")
TRIALS, STOCK_LONG = 64, 1000
ROUNDS, QUICK_ROUNDS = 15, 7
REPEAT_SECS = 0.02
OPEN_SECS, STOCK_SECS_A_TRIAL = 600.0, 10.0
# Estimates for 2 cores: our part as seen, TVM's from what 64 trials take.
CASE_SECS, STOCK_CASE_SECS, STOCK_LONG_SECS = 60, 150, 1500
SEED = 1

TEXT = """
Every workload is tuned from an empty database with at most {trials} trials, and the published best
is verified: against NumPy, or for fused programs against the unscheduled program as TVM compiles it
by itself. PyTorch {torch} runs in a process of its own, eager and by `torch.compile` with
max-autotune; weights are in its own layout. {stock}
Everything has {threads} threads. Times are medians of {rounds} rounds; in each round every
contender is timed once, for about {repeat:.0f} ms after an untimed call, in turn; the process of
the other is stopped meanwhile. The caches are warm.

The peak is that of multiply-adds on registers on all cores at once
(`tests/benchmarks/kernels/peak.py`), timed in turn with the products that are compared with it.
"""
STOCK = "Stock is TVM's MetaSchedule as it comes, with all cores; its traces are timed here."
NO_STOCK = "TVM's own tuner, stock, was left out of this run."


class Player:
    """A process that holds kernels and times them on order.

    Between orders it is stopped: threads of either library look for more work for a while after a
    call, some tenth of a second with TVM's, and would take the cores from the next contender.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [*command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
        )

    def ask(self, order: str, **arguments: object) -> dict[str, Any]:
        """Send an order and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(json.dumps({"order": order, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a timing process ended with {self._process.wait()}")
        self._process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; return 0 if every case has a verified best."""
    parser = argparse.ArgumentParser(prog="bench_kernels", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose names begin so; is not published")
    parser.add_argument(
        "--no-stock", action="store_true", help="leave TVM's tuner out; a later run can add it"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run finished")
    options = parser.parse_args(arguments)
    quick = bool(os.environ.get("QUICK"))
    chosen = [
        case for case in (quick_cases() if quick else cases()) if case.name.startswith(options.only)
    ]
    with_stock = not (quick or options.no_stock)
    in_part = quick or bool(options.only)
    checkpoint = Checkpoint("kernels", quick=quick, fresh=options.fresh)
    stock = Checkpoint("kernels-stock", fresh=options.fresh, version=tvm.__version__)
    left = [case for case in chosen if not checkpoint.has(_part(case, with_stock))]
    _announce(left, len(chosen), with_stock)
    target, rounds = native_target(), QUICK_ROUNDS if quick else ROUNDS
    found = [
        checkpoint.part(
            _part(case, with_stock),
            partial(_case, checkpoint, stock if with_stock else None, case, target, rounds),
        )
        for case in chosen
    ]
    publish(
        "bench-kernels",
        title="Kernels beside PyTorch and TVM's own tuner",
        text=TEXT.format(
            trials=TRIALS,
            torch=PINNED[0].rpartition("=")[2],
            stock=STOCK if with_stock else NO_STOCK,
            threads=target.cores,
            rounds=rounds,
            repeat=REPEAT_SECS * 1e3,
        ),
        tables=[_table(group, found) for group in (FLOAT32, LOW, FUSED)],
        keys={**_keys(found), "complete": with_stock and not in_part, "notes": _notes(found)},
        quick=in_part,
    )
    return 0 if all(item["verified"] for item in found) else 1


def _announce(left: Sequence[Case], chosen: int, with_stock: bool) -> None:
    secs = len(left) * (CASE_SECS + STOCK_CASE_SECS * with_stock)
    secs += STOCK_LONG_SECS * with_stock * sum(case.name in STOCK_1000 for case in left)
    print(f"{len(left)} of {chosen} cases, {secs / 60:.0f} minutes", file=sys.stderr, flush=True)


def _part(case: Case, with_stock: bool) -> str:
    """Name what was timed together, so that a run beside stock goes on after one without it."""
    return f"{case.name}: times" + " beside stock" * bool(_stock_trials(case, with_stock))


def _case(
    checkpoint: Checkpoint, stock: Checkpoint | None, case: Case, target: Target, rounds: int
) -> dict[str, Any]:
    """Tune one case by everybody and time all of them in turn."""
    print(case.name, file=sys.stderr, flush=True)
    ours = checkpoint.part(f"{case.name}: ours", lambda: _tune(case, target))
    kept = {} if ours["trace"] is None else {"ours": ours["trace"]}
    for trials in _stock_trials(case, stock is not None):
        assert stock is not None
        program = workload_of(case.name).workload_id[:12]
        theirs = stock.part(
            f"{case.name} ({program}): {trials} trials", partial(_stock, case, target, trials)
        )
        if theirs["trace"] is not None:
            kept[f"stock{trials}"] = theirs["trace"]
    times, notes = _times(case, target, kept, rounds)
    return {
        "name": case.name,
        "group": case.group,
        "flops": workload_of(case.name).flops,
        "verified": ours["verified"],
        "trials": ours["trials"],
        "tune_secs": ours["secs"],
        "times": times,
        "notes": notes,
    }


def _stock_trials(case: Case, with_stock: bool) -> tuple[int, ...]:
    if not with_stock or case.group != FLOAT32:
        return ()
    return (TRIALS, STOCK_LONG) if case.name in STOCK_1000 else (TRIALS,)


def _tune(case: Case, target: Target) -> dict[str, Any]:
    started = monotonic()
    counted: list[int] = [0]
    best = tune_workload(
        workload_of(case.name),
        trials=TRIALS,
        target=target.as_dict(),
        seed=SEED,
        on_progress=lambda progress: counted.__setitem__(0, progress.trials_done),
    )
    return {
        "trace": None if best is None else best.trace,
        "verified": best is not None and best.verified,
        "trials": counted[0],
        "secs": monotonic() - started,
    }


def _stock(case: Case, target: Target, trials: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-kernels-") as folder:
        program, output = Path(folder) / "program.json", Path(folder) / "trace.json"
        program.write_text(workload_of(case.name).ir)
        command = [sys.executable, "-m", "tests.benchmarks.kernels.stock", str(program)]
        command += [json.dumps(target.as_dict()), str(trials), str(output)]
        try:
            subprocess.run(
                command,
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=600 + STOCK_SECS_A_TRIAL * trials,
                env={**os.environ, "TVM_NUM_THREADS": str(target.cores)},
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            return {"trace": None, "error": str(error)[-200:]}
        return {"trace": json.loads(output.read_text())}


def _times(
    case: Case, target: Target, kept: Mapping[str, str], rounds: int
) -> tuple[dict[str, float], list[str]]:
    """Time all contenders in turn; return medians, and what is missing."""
    rival_args = {"op": case.op, "args": dict(case.args), "dtype": case.dtype}
    with _rival(target) as rival, _own(target) as own:
        opened = rival.ask("open", **rival_args)
        notes = [opened["compile_error"]] if "compile_error" in opened else []
        mine = own.ask(
            "open",
            name=case.name,
            target=target.as_dict(),
            traces_of=dict(kept),
            with_peak=case.name in PEAK_CASES,
        )
        contenders = [(own, kind) for kind in mine["kinds"]]
        contenders += [(rival, kind) for kind in opened["kinds"]]
        calls = {
            kind: ceil(REPEAT_SECS / max(1e-7, player.ask("time", kind=kind, calls=3)["secs"]))
            for player, kind in contenders
        }
        secs: dict[str, list[float]] = {kind: [] for _, kind in contenders}
        for _ in range(rounds):
            for player, kind in contenders:
                secs[kind].append(player.ask("time", kind=kind, calls=calls[kind])["secs"])
    return {kind: median(values) for kind, values in secs.items()}, notes


@contextmanager
def _own(target: Target) -> Iterator[Player]:
    command = [sys.executable, "-m", "tests.benchmarks.kernels.player"]
    player = Player(command, {"TVM_NUM_THREADS": str(target.cores)})
    try:
        yield player
    finally:
        player.close()


@contextmanager
def _rival(target: Target) -> Iterator[Player]:
    command = [str(_environment()), "-m", "tests.benchmarks.kernels.rival", str(target.cores)]
    player = Player(command, {"OMP_NUM_THREADS": str(target.cores)})
    try:
        yield player
    finally:
        player.close()


def _environment() -> Path:
    """Make PyTorch's virtual environment, if it is not there, and return its interpreter."""
    folder = ROOT / "build" / "bench-torch-venv"
    python, done = folder / "bin" / "python", folder / "installed.json"
    if not done.exists() or json.loads(done.read_text()) != list(PINNED):
        print("installing PyTorch into build/bench-torch-venv (minutes)", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINNED], check=True)
        done.write_text(json.dumps(PINNED))
    return python


# --- the report ----------------------------------------------------------------------------------


def _table(group: str, found: Sequence[dict[str, Any]]) -> Table:
    def row(item: dict[str, Any]) -> list[str]:
        times = item["times"]
        return [
            item["name"],
            *(_micro(times.get(kind)) for kind in ("ours", "eager", "compiled", "stock64")),
            _micro(times.get("stock1000")),
            _times_as_fast(_torch_secs(item), times.get("ours")),
            _times_as_fast(times.get("stock64"), times.get("ours")),
            f"{item['flops'] / times['ours'] / 1e9:.0f}" if "ours" in times else "-",
            str(item["trials"]),
            "yes" if item["verified"] else "no",
        ]

    columns = ["workload", "ours", "eager", "compiled", "stock 64", "stock 1000"]
    columns += ["vs torch", "vs stock 64", "GFLOP/s", "trials", "verified"]
    rows = [row(item) for item in found if item["group"] == group]
    return Table(title=f"Microseconds: {group}", columns=columns, rows=rows)


def _keys(found: Sequence[dict[str, Any]]) -> dict[str, object]:
    suite = [item for item in found if item["group"] == FLOAT32]
    ratios = _ratios(suite, _torch_secs)
    beside_peak = [item for item in suite if "peak" in item["times"]]
    peaks = [peak.flops(native_target()) / item["times"]["peak"] for item in beside_peak]
    fractions = [
        item["flops"] / item["times"]["ours"] / flops_per_sec
        for item, flops_per_sec in zip(beside_peak, peaks, strict=True)
        if "ours" in item["times"]
    ]
    return {
        "vs_torch_geomean": _geomean(ratios),
        "vs_torch_min": min(ratios, default=None),
        "vs_stock64_geomean": _geomean(_ratios(suite, lambda item: item["times"].get("stock64"))),
        "vs_stock1000_geomean": _geomean(
            _ratios(suite, lambda item: item["times"].get("stock1000"))
        ),
        "lowp_vs_onednn_geomean": _geomean(
            _ratios([item for item in found if item["group"] == LOW], _torch_secs)
        ),
        "matmul_peak_fraction": min(fractions, default=None),
        "fused_vs_torch_geomean": _geomean(
            _ratios([item for item in found if item["group"] == FUSED], _torch_secs)
        ),
        "peak_gflops": [flops_per_sec / 1e9 for flops_per_sec in peaks],
        "unverified": [item["name"] for item in found if not item["verified"]],
    }


def _notes(found: Sequence[dict[str, Any]]) -> list[str]:
    notes = [f"{item['name']}: {note}" for item in found for note in item["notes"]]
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if "amx_tile" not in flags:
        notes.append("no AMX on this machine: low precision is compared with oneDNN's AVX kernels")
    return notes


def _torch_secs(item: dict[str, Any]) -> float | None:
    """PyTorch's better time."""
    times = [item["times"].get(kind) for kind in ("eager", "compiled")]
    return min((secs for secs in times if secs is not None), default=None)


def _ratios(
    found: Sequence[dict[str, Any]], rival: Callable[[dict[str, Any]], float | None]
) -> list[float]:
    """How many times as fast ours is, for cases that have both; unverified bests do not count."""
    pairs = [
        (rival(item), item["times"].get("ours") if item["verified"] else None) for item in found
    ]
    return [theirs / ours for theirs, ours in pairs if theirs and ours]


def _geomean(ratios: Sequence[float]) -> float | None:
    return geomean(ratios) if ratios else None


def _micro(secs: float | None) -> str:
    return "-" if secs is None else f"{secs * 1e6:.1f}"


def _times_as_fast(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:.2f}x" if theirs and ours else "-"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
