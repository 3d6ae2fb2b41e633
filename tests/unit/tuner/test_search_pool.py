"""Pool processes and the end of their parent."""

import importlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from unittest import mock

import pytest

from tuner.client import wire
from tuner.search import step
from tuner.search.pool import search_pool

REQUEST = step.StepRequest(
    search_id="s",
    workload=wire.WorkloadWire(
        workload_id="w",
        name="n",
        op=None,
        args=None,
        dtype=None,
        tensors=[],
        flops=1.0,
        ir="{}",
    ),
    target={},
    space="default",
    seed=1,
    trials=(),
    count=1,
)

PARENT = """
import os, time
from tuner.search.pool import search_pool
if __name__ == "__main__":
    print(search_pool(1).submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_pool_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def _imported(*names: str) -> bool:
    for name in names:
        importlib.import_module(name)
    return "torch" in sys.modules


def test_a_pool_process_does_without_pytorch(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "torch.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with search_pool(1) as pool:
        # SciPy asks whether an array is PyTorch's.
        assert not pool.submit(_imported, "tvm", "scipy.stats").result()


def _stuck(request: step.StepRequest) -> None:
    with (
        mock.patch.object(step, "STEP_SECS", 0.2),
        mock.patch("tuner.search.warm.ask", side_effect=lambda request: time.sleep(60)),
    ):
        step.propose(request)


def test_a_step_that_never_ends_ends_with_its_process(capfd) -> None:
    with search_pool(1) as pool, pytest.raises(BrokenProcessPool):
        pool.submit(_stuck, REQUEST).result(timeout=30)
    assert "in _stuck" in capfd.readouterr().err
