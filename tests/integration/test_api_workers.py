import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from schedules.records import Purpose
from tests.integration.api_server import CPU, OTHER_CPU, Server, live_server

pytestmark = pytest.mark.alone


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with live_server(tmp_path) as running:
        yield running


def test_a_batch_goes_from_the_queue_to_a_worker_and_becomes_records(server: Server) -> None:
    worker_id = server.register()
    job = server.submit()
    server.enqueue(count=2)

    answer = server.lease(worker_id)
    assert answer.status_code == 200
    lease = answer.json()
    assert lease["job_id"] == job["id"]
    assert lease["workload"]["workload_id"] == job["workload_id"]
    assert "matmul" in lease["workload"]["ir"]
    assert lease["target"] == CPU
    assert lease["purpose"] == "trial"
    assert lease["ttl_secs"] == 30.0
    assert len(lease["items"]) == 2
    (worker,) = server.http.get("/v1/workers").json()["items"]
    assert worker["state"] == "busy"
    assert worker["environment"] == {"cpu": "test", "cores": 2}

    told = server.report(lease, worker_id)
    assert told.status_code == 200
    ids = [item["item_id"] for item in lease["items"]]
    assert told.json() == {"accepted": ids, "duplicate": [], "lease_open": False}
    again = server.report(lease, worker_id)
    assert again.json() == {"accepted": [], "duplicate": ids, "lease_open": False}

    records = server.http.get("/v1/records", params={"job_id": job["id"]}).json()["items"]
    assert {record["record_id"] for record in records} == set(ids)
    assert all(record["worker_id"] == worker_id for record in records)
    assert server.http.get(f"/v1/jobs/{job['id']}").json()["trials_done"] == 2
    (worker,) = server.http.get("/v1/workers").json()["items"]
    assert worker["state"] == "idle"


def test_without_work_the_answer_is_empty_after_the_wait(server: Server) -> None:
    worker_id = server.register()
    started = time.monotonic()
    answer = server.lease(worker_id, wait_secs=0.5)
    assert answer.status_code == 204
    assert answer.content == b""
    assert 0.4 < time.monotonic() - started < 5


def test_a_waiting_worker_is_woken_as_soon_as_there_is_a_batch(tmp_path: Path) -> None:
    # With polling this slow, only a notification can be in time.
    with live_server(tmp_path, poll_secs=30) as server:
        worker_id = server.register()
        server.submit()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.lease, worker_id, 20)
            while not server.services.events.waiting_workers():
                time.sleep(0.01)
            assert not answer.done()
            queued = time.monotonic()
            server.enqueue()
            assert answer.result(timeout=15).status_code == 200
        assert time.monotonic() - queued < 3


def test_a_batch_that_nobody_told_of_is_found_by_polling(tmp_path: Path) -> None:
    with live_server(tmp_path, poll_secs=0.2) as server:
        worker_id = server.register()
        server.submit()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.lease, worker_id, 20)
            time.sleep(0.3)
            events = server.services.events
            events.batch_ready = lambda target_id: None  # type: ignore[method-assign]  # nobody told
            server.enqueue()
            assert answer.result(timeout=15).status_code == 200


def test_each_batch_wakes_one_worker_of_its_target(tmp_path: Path) -> None:
    with live_server(tmp_path, poll_secs=30) as server:
        ids = [server.register(f"worker {number}") for number in range(3)]
        other = server.register("other", OTHER_CPU)
        for seed in (1, 2):
            server.submit(seed=seed)
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(server.lease, worker_id, 2.5) for worker_id in (other, *ids)]
            while server.services.events.waiting_workers() < 4:
                time.sleep(0.01)
            server.enqueue()
            server.enqueue()
            statuses = [answer.result().status_code for answer in answers]
        assert statuses[0] == 204
        assert sorted(statuses[1:]) == [200, 200, 204]


def test_waiting_workers_do_not_keep_others_from_being_answered(server: Server) -> None:
    ids = [server.register(f"worker {number}") for number in range(60)]
    limits = httpx.Limits(max_connections=100)
    with (
        httpx.Client(base_url=server.url, limits=limits, timeout=60) as http,
        ThreadPoolExecutor(len(ids)) as pool,
    ):
        waits = [
            pool.submit(http.post, f"/v1/workers/{worker_id}/lease", json={"wait_secs": 20})
            for worker_id in ids
        ]
        while server.services.events.waiting_workers() < len(ids):
            time.sleep(0.01)
        started = time.monotonic()
        for _ in range(10):
            assert server.http.get("/v1/jobs").status_code == 200
        took = time.monotonic() - started
        assert not any(wait.done() for wait in waits)
        assert took < 3
        server.services.events.close()
        assert {wait.result().status_code for wait in waits} == {204}


def test_a_worker_that_hung_up_while_waiting_gets_no_batch(tmp_path: Path) -> None:
    with live_server(tmp_path, poll_secs=30) as server:
        worker_id = server.register()
        server.submit()
        with pytest.raises(httpx.ReadTimeout):
            server.http.post(f"/v1/workers/{worker_id}/lease", json={"wait_secs": 20}, timeout=0.5)
        time.sleep(0.3)
        server.enqueue()
        time.sleep(0.5)
        second = server.register("second")
        assert server.lease(second).status_code == 200


def test_an_earlier_request_of_a_worker_takes_nothing_from_a_later_one(tmp_path: Path) -> None:
    with live_server(tmp_path, poll_secs=0.2) as server:
        worker_id = server.register()
        server.submit()
        with ThreadPoolExecutor(1) as pool:
            earlier = pool.submit(server.lease, worker_id, 20)
            while not server.services.events.waiting_workers():
                time.sleep(0.01)
            # As the later request does, but before there is a batch for the earlier one.
            server.services.fleet.take_turn(worker_id)
            server.enqueue()
            lease = server.lease(worker_id).json()
            assert earlier.result(timeout=15).status_code == 204
        path = f"/v1/leases/{lease['lease_id']}/heartbeat"
        beat = server.http.post(path, json={"epoch": lease["epoch"]})
        assert beat.json()["command"] == "continue"


def test_a_restarted_worker_takes_its_own_place(server: Server) -> None:
    first = server.register("same")
    server.submit()
    server.enqueue(1)
    old = server.lease(first).json()
    again = server.register("same")
    assert again == first
    new = server.lease(again).json()
    assert new["lease_id"] == old["lease_id"]
    assert new["epoch"] > old["epoch"]
    beat = server.http.post(f"/v1/leases/{old['lease_id']}/heartbeat", json={"epoch": old["epoch"]})
    assert beat.status_code == 409
    assert beat.json()["error"] == "lease_lost"


def test_a_released_batch_goes_to_the_next_worker_at_once(tmp_path: Path) -> None:
    with live_server(tmp_path, poll_secs=30) as server:
        first, second = server.register("first"), server.register("second")
        server.submit()
        server.enqueue()
        lease = server.lease(first).json()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.lease, second, 20)
            time.sleep(0.3)
            path = f"/v1/leases/{lease['lease_id']}/release"
            body = {"epoch": lease["epoch"]}
            assert server.http.post(path, json=body).status_code == 204
            assert answer.result(timeout=15).json()["lease_id"] == lease["lease_id"]
            assert server.http.post(path, json=body).json()["error"] == "lease_lost"


def test_finals_say_what_they_are_for(server: Server) -> None:
    worker_id = server.register()
    server.submit()
    server.enqueue(count=1, purpose=Purpose.FINAL)
    assert server.lease(worker_id).json()["purpose"] == "final"


def test_what_is_unknown_is_not_found_and_changes_nothing(server: Server) -> None:
    worker_id = server.register()
    server.submit()
    server.enqueue()
    lease = server.lease(worker_id).json()
    assert server.lease("nobody").status_code == 404
    post = server.http.post
    assert post("/v1/leases/none/heartbeat", json={"epoch": 1}).status_code == 404
    assert post("/v1/leases/none/release", json={"epoch": 1}).status_code == 404
    assert server.report({**lease, "lease_id": "none"}, worker_id).status_code == 404
    assert server.report(lease, "nobody").status_code == 404
    stray = [{"item_id": "stray", "result": {"run_secs": [1.0]}}]
    known = [{"item_id": lease["items"][0]["item_id"], "result": {"run_secs": [1.0]}}]
    assert server.report(lease, worker_id, results=known + stray).status_code == 404
    assert server.http.get("/v1/records").json()["items"] == []


def test_a_result_that_is_no_measurement_is_refused(server: Server) -> None:
    worker_id = server.register()
    server.submit()
    server.enqueue(count=1)
    lease = server.lease(worker_id).json()
    for result in (
        {},
        {"run_secs": [0.0]},
        {"run_secs": [-1.0]},
        {"run_secs": ["fast"]},
        {"run_secs": [1.0], "speed": 3},
        {"failure": {"kind": "lost", "detail": ""}},
        {"failure": {"kind": "build_error"}},
    ):
        results = [{"item_id": lease["items"][0]["item_id"], "result": result}]
        assert server.report(lease, worker_id, results=results).status_code == 422, result
    assert "results[0].result" in server.report(lease, worker_id, results=results).json()["detail"]
    assert server.report(lease, worker_id).status_code == 200


def test_a_registration_needs_a_complete_target(server: Server) -> None:
    body = {"name": "a", "target": {"kind": "llvm", "mcpu": "x"}, "environment": {}}
    answer = server.http.post("/v1/workers", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"] == "invalid_target"


def test_results_wake_those_who_follow_the_job(server: Server) -> None:
    worker_id = server.register()
    job = server.submit()
    server.enqueue()
    lease = server.lease(worker_id).json()
    woken = threading.Event()

    def follow() -> None:
        with server.services.events.watch_jobs() as waiter:
            ready.set()
            if waiter.wait(10):
                woken.set()

    ready = threading.Event()
    thread = threading.Thread(target=follow)
    thread.start()
    ready.wait()
    server.report(lease, worker_id)
    thread.join()
    assert woken.is_set()
    assert job["id"] == lease["job_id"]


def test_records_carry_the_protocol_of_their_worker_not_of_the_server(server: Server) -> None:
    worker_id = server.register()
    server.submit()
    server.enqueue(count=1)
    server.report(server.lease(worker_id).json(), worker_id, protocol_version=7)
    [record] = server.http.get("/v1/records").json()["items"]
    assert record["protocol_version"] == 7
