"""The demo's processes and its table; the whole demo is an acceptance test."""

import signal
import subprocess
import sys

import pytest

from schedules.errors import UnavailableError
from schedules.operators import find_operator
from tuner import demo


def test_every_workload_of_the_demo_is_in_the_catalogue():
    for workload in demo.DEMO_WORKLOADS:
        call = find_operator(workload.op).call(workload.args, workload.dtype)
        assert call.op == workload.op


def test_a_process_that_dies_is_shown_with_the_end_of_its_log(tmp_path):
    with demo._process("server", ["no-such-command"], tmp_path) as running:
        running.process.wait()
        with pytest.raises(UnavailableError, match=r"server ended with status 2(.|\n)*No such com"):
            running.check()


def test_a_process_is_stopped_even_where_the_demo_fails(tmp_path):
    command = ["worker", "--server", "http://127.0.0.1:9", "--state-dir", str(tmp_path)]
    started = []

    def interrupted():
        with demo._process("worker", command, tmp_path) as running:
            started.append(running.process)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started[0].poll() is not None


def test_a_process_that_ignores_requests_is_killed(monkeypatch):
    patient = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(
        demo, "_STOPS", ((signal.SIGTERM, 0.1), (signal.SIGTERM, 0.1), (signal.SIGKILL, 10.0))
    )
    process = subprocess.Popen([sys.executable, "-c", patient], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        demo._stop(process)
        assert process.returncode == -signal.SIGKILL


def test_results_are_shown_with_their_tolerance(capsys):
    result = demo.DemoResult(
        name="softmax(m=512, n=512, float32)",
        default_secs=1.1e-3,
        tuned_secs=1.1e-4,
        speedup=10.0,
        replayed_secs=1.2e-4,
        trials=32,
        failures=2,
        verified=True,
        reference="numpy",
        tolerance=1e-5,
        error=2e-7,
    )
    demo.print_results([result])
    shown = capsys.readouterr().out
    for part in ("softmax(m=512, n=512, float32)", "1.1 ms", "110 us", "10.00x", "32", "1.0e-05"):
        assert part in shown
