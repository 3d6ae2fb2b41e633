"""``/v1/budgets``, by HTTP, by the client and by the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from schedules.errors import InputError
from tests.contracts.store_values import OWNER, TTL
from tests.integration.api_server import CPU, MATMUL, Server, live_server
from tuner.cli.root import main
from tuner.client.errors import JobFailedError
from tuner.client.sdk import Client

SOFTMAX = {"op": "softmax", "args": {"m": 4, "n": 8}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with live_server(tmp_path_factory.mktemp("budgets")) as running:
        yield running


def request(*tasks: object, **changes: object) -> dict[str, object]:
    return {"tasks": list(tasks), "target": CPU, "budget": {"trials": 32}, **changes}


def test_a_budget_is_created_and_can_be_read_back(server: Server) -> None:
    body = request({"workload": MATMUL, "weight": 3}, {"workload": SOFTMAX}, priority=2)
    answer = server.http.post("/v1/budgets", json=body)
    assert answer.status_code == 201
    shared = answer.json()
    path = f"/v1/budgets/{shared['id']}"
    assert answer.headers["location"] == path
    assert (shared["state"], shared["trials_done"], shared["trials_budget"]) == ("queued", 0, 32)
    assert [job["weight"] for job in shared["jobs"]] == [3.0, 1.0]
    assert [job["priority"] for job in shared["jobs"]] == [2, 2]
    assert {job["budget_id"] for job in shared["jobs"]} == {shared["id"]}
    assert server.http.get(path).json() == shared
    job = shared["jobs"][0]
    assert server.http.get(f"/v1/jobs/{job['id']}").json() == job

    cancelled = server.http.post(f"{path}/cancel").json()
    assert cancelled["state"] == "cancelled"
    assert {job["state"] for job in cancelled["jobs"]} == {"cancelled"}


def test_a_workload_that_is_named_twice_is_one_with_both_weights(server: Server) -> None:
    body = request({"workload": MATMUL, "weight": 3}, {"workload": MATMUL, "weight": 0.5})
    (job,) = server.http.post("/v1/budgets", json=body).json()["jobs"]
    assert job["weight"] == 3.5


def test_a_retry_with_the_same_key_is_the_same_budget(server: Server) -> None:
    body, headers = request({"workload": MATMUL}), {"Idempotency-Key": "once"}
    first = server.http.post("/v1/budgets", json=body, headers=headers)
    again = server.http.post("/v1/budgets", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    other = request({"workload": SOFTMAX})
    assert server.http.post("/v1/budgets", json=other, headers=headers).status_code == 409


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (request(), "invalid_request", "tasks"),
        (request({"workload": MATMUL, "weight": 0}), "invalid_request", "tasks[0].weight"),
        (request({"workload": MATMUL}, {"workload": {"op": "matmull"}}), "unknown_operator", "[1]"),
        (request({"workload": MATMUL}, budget={}), "invalid_input", "trials"),
        (request({"workload": MATMUL}, space="outer"), "invalid_input", "outer"),
        ({"tasks": [{"workload": MATMUL}], "target": CPU}, "invalid_request", "budget"),
    ],
)
def test_a_bad_request_says_what_to_mend(
    server: Server, body: dict[str, object], error: str, says: str
) -> None:
    before = server.store.active_jobs()
    answer = server.http.post("/v1/budgets", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"] == error
    assert says in answer.json()["detail"]
    assert server.store.active_jobs() == before


def test_an_unknown_budget_is_not_found(server: Server) -> None:
    assert server.http.get("/v1/budgets/none").status_code == 404
    assert server.http.post("/v1/budgets/none/cancel").status_code == 404


def test_the_client_shares_a_budget_and_waits_for_all(server: Server) -> None:
    with Client(server.url) as client:
        shared = client.share_budget([MATMUL, SOFTMAX], weights=[1, 2], target=CPU, trials=8)
        assert client.shared_budget(shared.id).view == shared.view
        assert [job.view.weight for job in shared.jobs] == [1.0, 2.0]
        while claims := server.store.claim_jobs(OWNER, TTL):
            for claim in claims:
                server.store.finish_job(claim.job.job_id, OWNER, error="for a test")
        with pytest.raises(JobFailedError, match="for a test"):
            shared.wait(10)
        assert shared.state == "failed"
        with pytest.raises(InputError, match="1 weights for 2"):
            client.share_budget([MATMUL, SOFTMAX], weights=[1], target=CPU, trials=8)


def test_the_command_line_reads_tasks_from_a_file(server: Server, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps([{"workload": MATMUL, "weight": 2}, {"workload": SOFTMAX}]))
    to = ["--server", server.url]
    options = ["--target", json.dumps(CPU), "--trials", "8", "--json"]
    done = CliRunner().invoke(main, ["submit-all", str(tasks), *options, *to])
    assert done.exit_code == 0, done.output
    shared = json.loads(done.stdout)
    assert [job["weight"] for job in shared["jobs"]] == [2.0, 1.0]

    shown = CliRunner().invoke(main, ["budget", shared["id"], *to])
    assert shown.exit_code == 0
    assert "0 of 8" in shown.stdout
    cancelled = CliRunner().invoke(main, ["budget", shared["id"], "--cancel", *to])
    assert cancelled.exit_code == 1
    assert "cancelled" in cancelled.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "not JSON"),
        ("{}", "a list"),
        ("[]", "no workload"),
        ('[{"workload": {"op": "matmul"}, "wait": 1}]', "task 0: wait"),
    ],
)
def test_a_file_without_tasks_is_refused(tmp_path: Path, text: str, says: str) -> None:
    tasks = tmp_path / "tasks.json"
    tasks.write_text(text)
    done = CliRunner().invoke(main, ["submit-all", str(tasks), "--trials", "8"])
    assert done.exit_code == 2
    assert says in done.output
