import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from schedules.records import Best, Environment, Tier
from service.api import stream
from tests.contracts.store_values import finish
from tests.integration.api_server import OWNER, Server, candidate, live_server

Event = tuple[str, dict[str, Any]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # With polling this slow, what arrives soon was notified.
    with live_server(tmp_path, poll_secs=30) as running:
        yield running


def events_of(lines: Iterator[str]) -> Iterator[Event]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def follow(server: Server, job_id: str, seen: list[Event], begun: threading.Event) -> None:
    with (
        httpx.Client(base_url=server.url, timeout=60) as http,
        http.stream("GET", f"/v1/jobs/{job_id}/events") as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for event in events_of(answer.iter_lines()):
            seen.append(event)
            begun.set()


def publish(server: Server, job: dict[str, Any], record_id: str) -> None:
    best = Best(
        tier=Tier.EXACT,
        workload_id=job["workload_id"],
        target_id=job["target_id"],
        latency_secs=1e-3,
        latency_interval_secs=(1e-3, 1e-3),
        default_latency_secs=2e-3,
        trace=candidate(0).trace,
        trace_id=candidate(0).trace_id,
        verified=True,
        record_id=record_id,
        environment=Environment(),
        model_version=None,
        created_at=datetime.now(UTC),
    )
    server.store.publish(best, OWNER, job["id"])


def test_a_job_is_followed_from_its_first_trial_to_its_end(server: Server) -> None:
    worker_id = server.register()
    job = server.submit()
    server.enqueue(count=2)
    lease = server.lease(worker_id).json()
    ids = [item["item_id"] for item in lease["items"]]

    def report(place: int, result: dict[str, Any]) -> None:
        results = [{"item_id": ids[place], "result": result}]
        assert server.report(lease, worker_id, results=results).status_code == 200

    # One trial before anyone follows, one after.
    report(0, {"run_secs": [1e-3]})
    seen: list[Event] = []
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow, server, job["id"], seen, begun)
        assert begun.wait(10)
        report(1, {"failure": {"kind": "build_error", "detail": "no"}})
        time.sleep(0.3)
        publish(server, job, ids[0])
        finish(server.store, server.store.job(job["id"]), OWNER)
        server.services.events.job_changed(job["id"])
        following.result(timeout=15)

    trials = [data for name, data in seen if name == "trial"]
    assert [trial["record_id"] for trial in trials] == ids
    assert trials[0]["latency_secs"] == 1e-3
    assert (trials[1]["latency_secs"], trials[1]["failure"]) == (None, "build_error")
    assert [data["record_id"] for name, data in seen if name == "best"] == [ids[0]]
    assert seen[-1][0] == "state"
    assert seen[-1][1] == server.http.get(f"/v1/jobs/{job['id']}").json()
    assert seen[-1][1]["state"] == "done"
    states = [data["trials_done"] for name, data in seen if name == "state"]
    assert states == sorted(states)


def test_a_finished_job_is_told_at_once(server: Server) -> None:
    job = server.submit()
    server.http.post(f"/v1/jobs/{job['id']}/cancel")
    with server.http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        seen = list(events_of(answer.iter_lines()))
    assert [(name, data["state"]) for name, data in seen] == [("state", "cancelled")]


def test_a_silent_stream_is_kept_alive_and_ends_with_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_SECS", 0.2)
    with live_server(tmp_path, poll_secs=0.1) as server:
        job = server.submit()
        with server.http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
            for line in answer.iter_lines():
                if line == ": keep-alive":
                    server.services.events.close()


def test_a_stream_begins_with_the_newest_trials_of_a_long_job(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_PAGE", 2)
    worker_id = server.register()
    job = server.submit()
    server.enqueue(count=12)
    lease = server.lease(worker_id).json()
    server.report(lease, worker_id)
    server.http.post(f"/v1/jobs/{job['id']}/cancel")
    with server.http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        seen = [data for name, data in events_of(answer.iter_lines()) if name == "trial"]
    ids = [item["item_id"] for item in lease["items"]]
    assert [trial["record_id"] for trial in seen] == ids[2:]
