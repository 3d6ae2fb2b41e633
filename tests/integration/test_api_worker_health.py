"""Checks, quarantine, draining and clearing of workers over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.worker_health import AGAIN_SECS, QUARANTINED_CHECK_SECS
from tests.integration.api_server import Server, live_server

STEADY = [1e-3] * 5
SLOW = [2e-3] * 5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with live_server(tmp_path, strict_checks=True) as running:
        yield running


def check(server: Server, worker_id: str, runs: list[float], **changes: Any) -> httpx.Response:
    body = {"boot_id": "boot", "run_secs": runs, **changes}
    return server.http.post(f"/v1/workers/{worker_id}/checks", json=body)


def quarantine(server: Server, worker_id: str) -> None:
    for runs in (STEADY, SLOW, SLOW, SLOW):
        check(server, worker_id, runs)


def test_a_worker_learns_whether_it_may_measure_and_when_to_check_again(server: Server) -> None:
    worker_id = server.register()
    told = [check(server, worker_id, runs).json() for runs in (STEADY, SLOW, SLOW, SLOW)]
    settings = server.services.settings
    assert told[0] == {"quarantined": None, "check_secs": settings.check_secs}
    assert told[1] == told[2] == {"quarantined": None, "check_secs": AGAIN_SECS}
    assert "100.0% longer" in told[3]["quarantined"]
    assert told[3]["check_secs"] == QUARANTINED_CHECK_SECS


def test_a_quarantined_worker_gets_nothing_until_it_is_cleared(server: Server) -> None:
    worker_id = server.register()
    job = server.submit()
    server.enqueue()
    quarantine(server, worker_id)
    shown = server.http.get(f"/v1/workers/{worker_id}").json()
    assert shown["state"] == "quarantined"
    assert "reference kernel" in shown["quarantined"]
    assert server.lease(worker_id).status_code == 204
    waiting = server.http.get(f"/v1/jobs/{job['id']}").json()["waiting_for"]
    assert "tunesmith workers" in waiting
    cleared = server.http.post(f"/v1/workers/{worker_id}/clear")
    assert cleared.json()["quarantined"] is None
    assert server.lease(worker_id).status_code == 200


def test_the_checks_of_a_worker_are_listed_newest_first(server: Server) -> None:
    worker_id = server.register()
    for runs in (STEADY, SLOW):
        check(server, worker_id, runs)
    items = server.http.get(f"/v1/workers/{worker_id}/checks").json()["items"]
    assert [item["latency_secs"] for item in items] == [2e-3, 1e-3]
    assert [item["passed"] for item in items] == [False, True]
    assert items[0]["baseline_secs"] == 1e-3


def test_a_drained_worker_is_told_to_leave(server: Server) -> None:
    worker_id = server.register()
    server.submit()
    server.enqueue()
    lease = server.lease(worker_id).json()
    assert server.http.post(f"/v1/workers/{worker_id}/drain").json()["state"] == "draining"
    beat = server.http.post(
        f"/v1/leases/{lease['lease_id']}/heartbeat", json={"epoch": lease["epoch"]}
    )
    assert beat.json()["command"] == "drain"


@pytest.mark.parametrize(
    "changes",
    [
        {"run_secs": []},
        {"run_secs": [1e-3]},
        {"run_secs": [0.0, 1e-3]},
        {"run_secs": [-1.0, 1e-3]},
        {"run_secs": [1e-3] * 1001},
        {"boot_id": ""},
    ],
)
def test_a_check_that_says_nothing_is_refused(server: Server, changes: dict[str, Any]) -> None:
    worker_id = server.register()
    assert check(server, worker_id, STEADY, **changes).status_code == 422
    assert server.http.get(f"/v1/workers/{worker_id}/checks").json()["items"] == []


def test_unknown_workers_are_not_found(server: Server) -> None:
    assert check(server, "nobody", STEADY).status_code == 404
    for path in ("clear", "drain"):
        assert server.http.post(f"/v1/workers/nobody/{path}").status_code == 404
    for path in ("", "/checks"):
        assert server.http.get(f"/v1/workers/nobody{path}").status_code == 404
