"""Waiting workers cost next to nothing, and get work at once, in one process and in several."""

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from schedules.records import Purpose
from service.db import migrate
from service.db.notify import Channel
from service.db.store import Store
from service.events import Events
from tests.contracts.store_values import CPU, OWNER, candidates, running_job
from tests.integration.api_server import Server, candidate, live_server

TUNESMITH = "from tuner.cli import main; main(prog_name='tunesmith')"
DEADLINE_SECS = 20.0


def count_calls(store: Store, monkeypatch: pytest.MonkeyPatch, *names: str) -> Counter[str]:
    calls: Counter[str] = Counter()

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return method(*args, **kwargs)

        return call

    for name in names:
        monkeypatch.setattr(store, name, counting(name, getattr(store, name)))
    return calls


@contextmanager
def waiting(server: Server, count: int) -> Iterator[list[Any]]:
    """Let so many workers wait; gives the futures of their answers."""
    ids = [server.register(f"worker {number}") for number in range(count)]
    with (
        httpx.Client(base_url=server.url, timeout=60) as http,
        ThreadPoolExecutor(count) as pool,
    ):
        answers = [
            pool.submit(http.post, f"/v1/workers/{worker_id}/lease", json={"wait_secs": 20})
            for worker_id in ids
        ]
        try:
            while server.services.events.waiting_workers() < count:
                time.sleep(0.01)
            yield answers
        finally:
            server.services.events.close()


def test_idle_workers_write_nothing_and_share_each_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(tmp_path, poll_secs=0.1) as server:
        calls = count_calls(server.store, monkeypatch, "lease_batch", "touch_workers", "prospect")
        with waiting(server, 50):
            calls.clear()
            time.sleep(1.0)
            assert calls["lease_batch"] == 0
            assert calls["touch_workers"] <= 1
            assert 1 <= calls["prospect"] <= 20


def test_a_poll_wakes_as_many_workers_as_there_are_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(tmp_path, poll_secs=0.2) as server:
        server.submit()
        calls = count_calls(server.store, monkeypatch, "lease_batch")
        monkeypatch.setattr(server.services.events, "batch_ready", lambda target_id: None)
        with waiting(server, 8) as answers:
            server.enqueue()
            job_id = server.http.get("/v1/jobs").json()["items"][0]["id"]
            for _ in range(2):
                server.store.enqueue_batch(
                    job_id,
                    "test-owner",
                    purpose=Purpose.TRIAL,
                    candidates=[candidate(1)],
                    incumbent_secs=None,
                )
            deadline = time.monotonic() + DEADLINE_SECS
            while sum(answer.done() for answer in answers) < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert calls["lease_batch"] < 8
        statuses = Counter(answer.result().status_code for answer in answers)
        assert statuses == {200: 3, 204: 5}


def test_one_that_comes_back_at_once_costs_no_look_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(tmp_path, poll_secs=30) as server:
        server.submit()
        calls = count_calls(server.store, monkeypatch, "prospect", "lease_batch")
        path = f"/v1/workers/{server.register('worker')}/lease"
        for _ in range(3):
            assert server.http.post(path, json={"wait_secs": 0.01}).status_code == 204
        assert calls == {"prospect": 1}
        server.enqueue()
        assert server.http.post(path, json={"wait_secs": 10}).status_code == 200


@contextmanager
def api_process(directory: Path, database_url: str) -> Iterator[str]:
    """An API process that polls so seldom that only a notification can be in time."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", TUNESMITH, "serve", "--role", "api", "--port", "0"),
            *("--data-dir", str(directory), "--database-url", database_url),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TUNESMITH_POLL_SECS": "60"},
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + process.stderr.read()
        yield found[0]
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


@pytest.mark.slow
def test_processes_that_share_a_database_wake_each_other(
    postgres_server: str, tmp_path: Path
) -> None:
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE notified")
    url = postgres_server.replace("/postgres?", "/notified?")
    migrate.upgrade(url)
    store, events = Store.open(url), Events()
    connected = threading.Event()
    channel = Channel(url, receive=events.receive, missed=connected.set)
    events.connect(channel.send)
    with ExitStack() as stack:
        stack.callback(store.close)
        channel.start()
        stack.callback(channel.stop)
        job = running_job(store)
        apis = [stack.enter_context(api_process(tmp_path / name, url)) for name in ("one", "other")]
        assert connected.wait(DEADLINE_SECS)
        pool = stack.enter_context(ThreadPoolExecutor(len(apis)))
        ids = {}
        for api in apis:
            body = {"name": api, "target": CPU.as_dict(), "environment": {}}
            ids[api] = httpx.post(f"{api}/v1/workers", json=body).json()["worker_id"]
        answers = {
            api: pool.submit(
                httpx.post,
                f"{api}/v1/workers/{ids[api]}/lease",
                json={"wait_secs": 40},
                timeout=60,
            )
            for api in apis
        }
        # Both have looked in vain: a worker is noted just before that.
        time.sleep(1.0)
        assert not any(answer.done() for answer in answers.values())
        started = time.monotonic()
        for _ in apis:
            store.enqueue_batch(
                job.job_id,
                OWNER,
                purpose=Purpose.TRIAL,
                candidates=candidates(1),
                incumbent_secs=None,
            )
            events.batch_ready(CPU.target_id)
        leases = {api: answer.result(DEADLINE_SECS).json() for api, answer in answers.items()}
        assert time.monotonic() - started < DEADLINE_SECS

        # Each result is reported where the lease was not made.
        with events.watch_jobs() as tuner:
            for api, other in zip(apis, reversed(apis), strict=True):
                lease = leases[api]
                told = httpx.post(
                    f"{other}/v1/leases/{lease['lease_id']}/results",
                    json={
                        "epoch": lease["epoch"],
                        "worker_id": ids[api],
                        "environment": {},
                        "results": [
                            {"item_id": item["item_id"], "result": {"run_secs": [1e-3]}}
                            for item in lease["items"]
                        ],
                    },
                )
                assert told.status_code == 200
                assert tuner.wait(DEADLINE_SECS)
