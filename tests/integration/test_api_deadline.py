"""`deadline_secs`: the best that can be had in time, improving behind the answer."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.auth import Auth, read_tokens
from tests.integration.api_server import CPU, MATMUL, Server, live_server

READER = "a-reader-token-of-some-length"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with live_server(tmp_path) as running:
        yield running


def ask(server: Server, deadline_secs: float) -> Any:
    body = {"workload": MATMUL, "target": CPU, "deadline_secs": deadline_secs}
    return server.http.post("/v1/best", json=body, timeout=60)


def test_a_best_that_is_found_in_time_is_the_answer_and_the_job_goes_on(server: Server) -> None:
    server.register()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, server, 50)
        while not server.store.active_jobs():
            assert not asked.done(), asked.result().text
            time.sleep(0.02)
        record = {"workload": MATMUL, "target": CPU, "trace": [[], []], "run_secs": [0.5]}
        server.http.post("/v1/records/import", json={"records": [record]}).raise_for_status()
        found = asked.result()

    assert (found.status_code, found.json()["tier"]) == (200, "exact")
    (job,) = server.store.active_jobs()
    assert job.spec.trials == 64


def test_the_time_ends_without_a_best(server: Server) -> None:
    server.register()

    assert ask(server, 0.3).status_code == 404
    assert len(server.store.active_jobs()) == 1


def test_nothing_is_tuned_where_nobody_could_measure(server: Server) -> None:
    assert ask(server, 50).status_code == 404
    assert server.store.active_jobs() == ()


def test_tuning_takes_more_than_the_right_to_read(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{READER} read\n")
    with live_server(tmp_path, auth=Auth(read_tokens(tokens))) as server:
        body = {"workload": MATMUL, "target": CPU, "deadline_secs": 1}
        headers = {"Authorization": f"Bearer {READER}"}
        answer = server.http.post("/v1/best", json=body, headers=headers)

    assert answer.status_code == 403
    assert "'submit'" in answer.json()["detail"]
