"""The worker as a process: signals, kills, several devices, and what it costs while it waits."""

import json
import signal
import subprocess
import sys
import time

import pytest

from schedules.errors import ConflictError
from tests.processes import cpu_secs
from tuner.worker.devices import WHOLE_CPU, parse_devices
from tuner.worker.lock import DeviceLock

pytestmark = pytest.mark.alone


def test_a_killed_worker_posts_its_results_when_it_starts_again(server, spawn, run):
    server.batches = [["a", "b", "c", "d"]]
    server.fail_next = {"results": [503] * 1000}
    process = spawn(0.6)
    server.wait_for(lambda: server.calls.count("results") >= 1)
    process.kill()
    process.wait()
    server.fail_next = {}
    server.batches = [["later"]]
    run()
    assert "d" in server.results
    assert "later" in server.results
    lease_id, body = server.posts[0]
    assert (lease_id, body["worker_id"]) == ("l1", "w1")
    # Registering gives the rest of the batch to others, so what is measured has to be told first.
    assert server.calls.index("workers", 1) > server.calls.index("results")


def test_sigterm_while_idle_leaves_at_once(server, spawn):
    process = spawn()
    server.wait_for(lambda: "lease" in server.calls)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 3


def test_sigterm_lets_the_batch_finish(server, spawn, tmp_path):
    server.batches = [["a", "b", "c", "d", "e"], ["not mine"]]
    process = spawn(0.2)
    server.wait_for(lambda: spooled(tmp_path))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert sorted(server.results) == ["a", "b", "c", "d", "e"]
    assert server.batches == [["not mine"]]


def test_a_second_sigterm_gives_the_batch_back_at_once(server, spawn):
    server.batches = [["a", "b", "c"]]
    process = spawn(30)
    server.wait_for(lambda: not server.batches)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - began < 5
    assert server.released == ["l1"]


def test_signals_that_interrupt_each_other_do_no_harm(server, spawn):
    # As the kernel sends them when a parent is killed: one for each of its threads.
    server.batches = [["a", "b", "c"]]
    process = spawn(30)
    server.wait_for(lambda: not server.batches)
    time.sleep(0.2)
    for _ in range(2000):
        process.send_signal(signal.SIGTERM)
        time.sleep(1e-5)
    # Its handlers end before the process does.
    assert process.wait(10) in (0, -signal.SIGTERM)
    assert server.released == ["l1"]


def test_a_worker_stopped_past_its_lease_posts_what_it_has_and_measures_no_more_of_it(
    server, spawn, tmp_path
):
    server.batches = [[str(n) for n in range(40)]]
    server.ttl_secs = 1.0
    process = spawn(0.1)
    server.wait_for(lambda: len(spooled(tmp_path)) >= 2)
    process.send_signal(signal.SIGSTOP)
    waiting = spooled(tmp_path)
    polls = server.calls.count("lease")
    time.sleep(1.2)
    # The server gave the lease to another meanwhile.
    server.lease_lost = True
    reported = set(server.results)
    process.send_signal(signal.SIGCONT)
    server.wait_for(lambda: server.calls.count("lease") > polls)
    late = set(server.results) - reported
    # At most the one that was being measured is more than what waited to be posted.
    assert waiting - reported <= late
    assert len(late) <= len(waiting) + 1
    assert server.released == []
    server.lease_lost = False
    server.batches = [["next"]]
    server.wait_for(lambda: "next" in server.results)


def spooled(directory):
    """Return the ids of the items that a worker has on its disk."""
    lines = [
        line
        for path in directory.glob("spool-*.jsonl")
        for line in path.read_bytes().splitlines(keepends=True)
    ]
    requests = [json.loads(line)["request"] for line in lines if line.endswith(b"\n")]
    return {request["results"][0]["item_id"] for request in requests}


def test_several_devices_are_several_workers_that_drain_together(server, spawn, tmp_path):
    server.batches = [["a", "b", "c"], ["d", "e", "f"]]
    process = spawn(0.2, "cpu:0-7", "cpu:8", "cuda:0")
    server.wait_for(lambda: server.workers == 3 and {"c", "f"} <= spooled(tmp_path))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert sorted(server.names) == ["process/cpu:0-7", "process/cpu:8", "process/cuda:0"]
    assert sorted(server.results) == ["a", "b", "c", "d", "e", "f"]


def test_a_second_sigterm_reaches_every_device(server, spawn):
    server.batches = [["a"], ["b"]]
    process = spawn(60, "cpu:0", "cpu:1")
    server.wait_for(lambda: server.workers == 2 and not server.batches)
    for _ in range(2):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert sorted(server.released) == ["l1", "l2"]


def test_a_device_that_fails_lets_the_others_finish_and_its_status_is_the_whole_ones(
    server, spawn, tmp_path
):
    server.batches = [["a", "b", "c"]]
    with DeviceLock(tmp_path, parse_devices(["cpu:1"], {1})[0]):
        process = spawn(0.2, "cpu:0", "cpu:1")
        assert process.wait(20) == 1
    assert len(server.results) in (0, 3)


def test_no_device_outlives_its_parent(server, spawn, tmp_path):
    server.hold_secs = 30.0
    process = spawn(0.05, "cpu:0", "cpu:1")
    server.wait_for(lambda: server.calls.count("lease") == 2)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while True:
        try:
            DeviceLock(tmp_path, WHOLE_CPU).release()
            break
        except ConflictError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_daemon_that_waits_for_work_uses_no_cpu(server, spawn):
    server.hold_secs = 30.0
    process = spawn()
    server.wait_for(lambda: "lease" in server.calls)
    time.sleep(0.3)
    before = cpu_secs(process.pid)
    time.sleep(1.5)
    assert cpu_secs(process.pid) - before < 0.001 * 1.5


def test_the_daemon_never_imports_tvm():
    code = "import sys, tuner.worker.daemon, tuner.cli; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
