"""The worker's loop over real HTTP: what it does when things go wrong."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from schedules.errors import ConflictError, UnavailableError
from schedules.records import Failure, FailureKind, MeasureResult
from tests.integration.worker_server import Answer, FakeMeasurer, LeaseServer
from tests.processes import cpu_secs, files_of_at_most
from tuner.client.http import Connection
from tuner.worker import machine
from tuner.worker.daemon import WorkerConfig, WorkerDaemon
from tuner.worker.devices import WHOLE_CPU, parse_devices
from tuner.worker.lock import DeviceLock


@pytest.fixture
def server():
    with LeaseServer() as server:
        yield server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(machine, "FIRST_WAIT_SECS", 0.02)
    monkeypatch.setattr(machine, "LONGEST_WAIT_SECS", 0.1)
    monkeypatch.setattr(machine, "POST_EVERY_SECS", 0.05)


@pytest.fixture
def run(server, tmp_path):
    """Run a daemon until it leaves."""

    def run(measurer=None, **options):
        options = {"max_batches": 1, **options}
        config = WorkerConfig(name="test", state_dir=tmp_path, poll_secs=0.1, **options)
        with Connection(server.url, timeout_secs=5) as connection:
            WorkerDaemon(connection, measurer or FakeMeasurer(), config).run(signals=False)

    return run


@pytest.fixture
def spawn(server, tmp_path):
    """Start a daemon as a process."""
    started = []

    def spawn(secs=0.05, *devices):
        module = "tests.integration.worker_server"
        process = subprocess.Popen(
            [sys.executable, "-m", module, server.url, str(tmp_path), str(secs), *devices],
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.wait()


def test_every_item_is_measured_and_reported_once(server, run):
    server.batches = [["a", "b", "c"], ["d"]]
    run(max_batches=2)
    assert sorted(server.results) == ["a", "b", "c", "d"]
    reported = [item["item_id"] for _, body in server.posts for item in body["results"]]
    assert sorted(reported) == ["a", "b", "c", "d"]
    lease_id, body = server.posts[0]
    assert (lease_id, body["epoch"], body["worker_id"]) == ("l1", 1, "w1")
    assert body["environment"] == {"device": "fake"}
    assert server.results["a"]["run_secs"] == [1e-3, 2e-3]


def test_it_leaves_at_once_without_work_where_that_is_wanted(server, run):
    run(leave_when_idle=True)
    assert server.calls == ["workers", "checks", "lease"]


def test_it_waits_for_a_server_that_is_not_there_yet(server, run):
    server.batches = [["a"]]
    server.stop()
    thread = threading.Thread(daemon=True, target=run)
    thread.start()
    time.sleep(0.3)
    server.start()
    thread.join(20)
    assert list(server.results) == ["a"]


@pytest.mark.parametrize("status", [0, 503])
@pytest.mark.parametrize("call", ["workers", "checks", "lease", "results", "heartbeat"])
def test_answers_that_fail_for_a_while_lose_nothing(server, run, call, status):
    server.batches = [["a", "b"], ["c"]]
    server.ttl_secs = 0.9
    server.fail_next = {call: [status, status]}
    run(FakeMeasurer(0.2), max_batches=2)
    assert sorted(server.results) == ["a", "b", "c"]


def test_results_wait_in_the_spool_while_the_server_is_away(server, run):
    server.batches = [["a", "b"]]
    measurer = FakeMeasurer(0.1)
    thread = threading.Thread(daemon=True, target=run, args=(measurer,), kwargs={"max_batches": 2})
    thread.start()
    server.wait_for(lambda: not server.batches)
    server.stop()
    while measurer.measured < 2:
        time.sleep(0.01)
    time.sleep(0.2)
    server.batches = [["c"]]
    server.start()
    thread.join(20)
    assert sorted(server.results) == ["a", "b", "c"]


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


def test_a_server_that_lost_its_database_is_registered_at_again(server, run):
    server.batches = [["a"]]
    server.fail_next = {"lease": [404]}
    run()
    assert server.workers == 2
    assert server.posts[0][1]["worker_id"] == "w2"


def test_results_that_the_server_will_never_take_are_put_aside(server, run, tmp_path):
    server.batches = [["a"], ["b"]]
    server.fail_next = {"results": [404]}
    run(max_batches=2)
    assert list(server.results) == ["b"]
    [aside] = tmp_path.glob("spool-*.rejected")
    assert '"item_id":"a"' in aside.read_text()


def test_a_cancelled_job_stops_the_batch(server, run):
    server.batches = [[str(n) for n in range(50)], ["next"]]
    server.ttl_secs = 0.3
    server.command = "cancel"
    measurer = FakeMeasurer(0.06)
    thread = threading.Thread(daemon=True, target=run, args=(measurer,))
    thread.start()
    server.wait_for(lambda: server.released == ["l1"])
    server.command = "continue"
    thread.join(20)
    assert measurer.closed_early == 1
    assert measurer.measured < 20
    assert "next" in server.results


@pytest.mark.parametrize("how", ["heartbeat", "results"])
def test_a_lost_lease_stops_the_batch_but_not_its_results(server, run, how):
    server.batches = [[str(n) for n in range(50)], ["next"]]
    server.ttl_secs = 0.3 if how == "heartbeat" else 30.0
    server.lease_lost = True
    measurer = FakeMeasurer(0.06)
    thread = threading.Thread(daemon=True, target=run, args=(measurer,))
    thread.start()
    server.wait_for(lambda: measurer.closed_early == 1)
    server.lease_lost = False
    thread.join(20)
    assert "49" in server.results
    assert "next" in server.results
    assert server.released == []


def test_a_candidate_that_outlasts_the_lease_does_not_lose_it(server, run):
    server.batches = [["slow"]]
    server.ttl_secs = 0.6
    run(FakeMeasurer(1.5))
    assert server.heartbeats >= 3
    assert list(server.results) == ["slow"]


def test_quick_candidates_need_no_heartbeats(server, run):
    server.batches = [["a", "b"]]
    run(FakeMeasurer(0.1))
    assert server.heartbeats == 0


def test_a_batch_that_cannot_be_measured_is_given_back(server, run):
    server.batches = [["a"], ["b"]]
    measurer = FakeMeasurer()
    measurer.fail_batches = 1
    run(measurer)
    assert server.released == ["l1"]
    assert list(server.results) == ["b"]


def test_a_machine_that_cannot_measure_at_all_ends_with_the_reason(server, run):
    server.batches = [["a"]] * 5
    measurer = FakeMeasurer()
    measurer.fail_batches = 5
    with pytest.raises(UnavailableError, match="cannot measure: the measuring host died"):
        run(measurer)
    assert server.released == ["l1", "l2", "l3"]


@pytest.mark.parametrize(("call", "status"), [("workers", 401), ("workers", 422), ("lease", 403)])
def test_a_server_that_will_not_have_the_worker_is_told_of(server, run, call, status):
    server.fail_next = {call: [status]}
    with pytest.raises(UnavailableError, match=f"refused .*status {status}"):
        run()


def test_a_refused_token_keeps_the_results(server, run):
    server.batches = [["a"]]
    server.fail_next = {"results": [401]}
    with pytest.raises(UnavailableError, match="refused results"):
        run()
    run(leave_when_idle=True)
    assert list(server.results) == ["a"]


def test_a_device_with_a_worker_refuses_another(run, tmp_path):
    with DeviceLock(tmp_path, WHOLE_CPU), pytest.raises(ConflictError, match="another worker"):
        run()


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


def test_measuring_ends_with_the_lease_when_the_server_is_away(server, run):
    server.batches = [["endless"]]
    server.ttl_secs = 0.6
    server.fail_next = {"heartbeat": [503] * 100}
    measurer = FakeMeasurer(60)
    thread = threading.Thread(daemon=True, target=run, args=(measurer,))
    thread.start()
    server.wait_for(lambda: server.calls.count("lease") >= 2)
    measurer.secs = 0
    server.batches = [["next"]]
    thread.join(20)
    assert not thread.is_alive()
    assert list(server.results) == ["next"]


def test_a_cancelled_job_interrupts_the_candidate_that_is_being_measured(server, run):
    server.batches = [["endless"]]
    server.ttl_secs = 0.6
    server.command = "cancel"
    measurer = FakeMeasurer(60)
    thread = threading.Thread(daemon=True, target=run, args=(measurer,))
    thread.start()
    server.wait_for(lambda: server.released == ["l1"])
    measurer.secs = 0
    server.batches = [["next"]]
    thread.join(20)
    assert not thread.is_alive()
    assert list(server.results) == ["next"]


def test_a_drained_worker_keeps_the_lease_of_its_last_candidate(server, run):
    server.batches = [["slow"]]
    server.ttl_secs = 0.6
    server.command = "drain"
    run(FakeMeasurer(1.5), max_batches=None)
    assert server.heartbeats >= 3
    assert list(server.results) == ["slow"]


def test_checks_report_the_reference_kernel_and_keep_to_the_pace_they_are_told(server, run):
    server.check_secs = 0.2
    thread = threading.Thread(daemon=True, target=run)
    thread.start()
    server.wait_for(lambda: len(server.checks) >= 3)
    server.batches = [["a"]]
    thread.join(20)
    assert server.checks[0]["run_secs"] == [2e-3, 2e-3]
    assert server.checks[0]["failure"] is None
    assert server.checks[0]["boot_id"]
    assert server.calls[:3] == ["workers", "checks", "lease"]


def test_a_quarantined_worker_says_why_once_and_goes_on_asking(server, run, caplog):
    caplog.set_level("INFO")
    server.quarantined = "7 % slower than its baseline"
    server.check_secs = 0.05
    thread = threading.Thread(daemon=True, target=run)
    thread.start()
    server.wait_for(lambda: len(server.checks) >= 3 and server.calls.count("lease") >= 3)
    server.quarantined = None
    server.wait_for(lambda: "leases to this worker again" in caplog.text)
    server.batches = [["a"]]
    thread.join(20)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    [warning] = [text for text in warnings if "leases nothing" in text]
    assert "7 % slower" in warning
    assert "tunesmith clear test" in warning


@pytest.mark.parametrize("how", ["failure", "exception"])
def test_a_check_that_cannot_be_measured_is_reported_as_that(server, run, how):
    server.batches = [["a"]]
    measurer = FakeMeasurer()
    failed = Failure(kind=FailureKind.RUN_ERROR, detail="killed by SIGILL")
    measurer.reference_result = MeasureResult(failure=failed)
    measurer.fail_references = how == "exception"
    run(measurer)
    [check] = server.checks
    assert check["run_secs"] == []
    assert ("host died" if how == "exception" else "SIGILL") in check["failure"]


def test_a_device_without_a_reference_kernel_measures_and_reports_no_check(server, run):
    server.batches = [["a"]]
    measurer = FakeMeasurer()
    measurer.reference_result = None
    run(measurer)
    assert list(server.results) == ["a"]
    assert server.checks == []


HTML = b"<html>back in a minute</html>"


@pytest.mark.parametrize("call", ["checks", "lease", "heartbeat", "results"])
def test_what_a_proxy_answers_in_the_servers_place_changes_nothing(server, run, tmp_path, call):
    server.batches = [["a", "b"]]
    server.ttl_secs = 0.9
    server.fail_next = {call: [Answer(status, HTML) for status in (200, 302, 401, 404, 409, 502)]}
    run(FakeMeasurer(0.2), max_batches=None, leave_when_idle=True)
    assert sorted(server.results) == ["a", "b"]
    assert server.workers == 1
    assert list(tmp_path.glob("*.rejected")) == []


def test_a_server_that_asks_for_patience_is_given_it(server, run):
    server.batches = [["a"]]
    server.fail_next = {"lease": [Answer(429, b"{}", retry_after_secs=1)]}
    times = []
    answer = server.answer

    def noting(handler):
        if handler.path.endswith("/lease"):
            times.append(time.monotonic())
        answer(handler)

    server.answer = noting
    run(max_batches=None, leave_when_idle=True)
    assert list(server.results) == ["a"]
    assert times[1] - times[0] >= 1.0


def test_on_a_full_disk_measuring_goes_on_and_every_result_is_posted_at_once(server, run):
    server.batches = [["a", "b", "c"], ["d"]]
    with files_of_at_most(100):
        run(FakeMeasurer(0.01), max_batches=2)
    assert sorted(server.results) == ["a", "b", "c", "d"]
    assert [len(body["results"]) for _, body in server.posts] == [1, 1, 1, 1]


def test_on_a_full_disk_nothing_is_measured_while_the_server_is_away(server, run, caplog):
    server.batches = [["a", "b", "c"], ["d"]]
    server.fail_next = {"results": [503] * 3}
    measurer = FakeMeasurer(0.01)
    with files_of_at_most(100):
        run(measurer)
    assert sorted(server.results) == ["c", "d"]
    assert measurer.measured == 2


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
