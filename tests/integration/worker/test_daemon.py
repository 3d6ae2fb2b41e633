"""The worker's loop over real HTTP: what it does when things go wrong."""

import threading
import time

import pytest

from schedules.errors import ConflictError, UnavailableError
from schedules.records import Failure, FailureKind, MeasureResult
from tests.integration.worker_server import Answer, FakeMeasurer
from tests.processes import files_of_at_most
from tuner.worker.devices import WHOLE_CPU
from tuner.worker.lock import DeviceLock

pytestmark = pytest.mark.alone


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
    server.batches = [["a", "b", "c"], ["d"]]
    server.ttl_secs = 6.0
    server.heartbeat_secs = 0.05
    server.fail_next = {call: [status, status]}
    run(FakeMeasurer(0.1), max_batches=2)
    assert sorted(server.results) == ["a", "b", "c", "d"]
    assert server.fail_next == {call: []}


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
    items = list("abcdefgh")
    server.batches = [items]
    server.ttl_secs = 6.0
    server.heartbeat_secs = 0.05
    server.fail_next = {call: [Answer(status, HTML) for status in (200, 302, 401, 404, 409, 502)]}
    run(FakeMeasurer(0.1), max_batches=None, leave_when_idle=True)
    assert sorted(server.results) == items
    assert server.fail_next == {call: []}
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
