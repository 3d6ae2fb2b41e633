from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.store_values import claim
from tests.integration.api_server import CPU, MATMUL, OTHER_CPU, OWNER, Server, live_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with live_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for tests that leave nothing behind."""
    with live_server(tmp_path_factory.mktemp("shared")) as running:
        yield running


def test_a_new_job_is_created_and_can_be_read_back(server: Server) -> None:
    request = {"workload": MATMUL, "target": CPU, "budget": {"trials": 8}, "priority": 3}
    answer = server.http.post("/v1/jobs", json=request)
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert not job["attached"]
    assert job["trials_done"] == 0
    assert job["trials_budget"] == 8
    assert job["failures"] == {}
    assert job["best"] is None
    assert job["priority"] == 3
    assert server.http.get(f"/v1/jobs/{job['id']}").json() == job


def test_an_equal_request_attaches_and_a_larger_budget_tops_it_up(server: Server) -> None:
    first = server.submit()
    answer = server.http.post(
        "/v1/jobs", json={"workload": MATMUL, "target": CPU, "budget": {"trials": 20}}
    )
    assert answer.status_code == 200
    second = answer.json()
    assert second["id"] == first["id"]
    assert second["attached"]
    assert second["trials_budget"] == 20
    assert server.submit(seed=1)["id"] != first["id"]
    assert server.submit(space="stock")["id"] != first["id"]


def test_a_retry_with_the_same_key_is_the_same_job(server: Server) -> None:
    request = {"workload": MATMUL, "target": CPU, "budget": {"trials": 8}}
    headers = {"Idempotency-Key": "a-key"}
    first = server.http.post("/v1/jobs", json=request, headers=headers)
    server.http.post(f"/v1/jobs/{first.json()['id']}/cancel").raise_for_status()
    again = server.http.post("/v1/jobs", json=request, headers=headers)
    assert again.status_code == 200
    assert again.json()["id"] == first.json()["id"]
    other = server.http.post("/v1/jobs", json={**request, "priority": 5}, headers=headers)
    assert other.status_code == 409
    assert other.json()["error"] == "conflict"


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"workload": {"op": "matmull"}}, "unknown_operator", "did you mean"),
        ({"workload": {"op": "matmul", "args": {"n": 4}}}, "invalid_argument", "'m'"),
        ({"workload": {"op": "matmul", "args": {"n": "x"}}}, "invalid_argument", "integer"),
        ({"workload": {"op": "matmul", "dtype": "float128"}}, "invalid_argument", "float128"),
        ({"workload": {"ir": "{}"}}, "invalid_workload", "no program"),
        ({"workload": {"ir": ""}}, "invalid_request", "workload.ir"),
        ({"workload": {"args": {}}}, "invalid_request", "workload.op"),
        ({"workload": {**MATMUL, "opp": 1}}, "invalid_request", "workload.opp"),
        ({"target": {"kind": "llvm"}}, "invalid_target", "mcpu"),
        ({"target": {**CPU, "mcpu": "unheard-of"}}, "invalid_target", "unheard-of"),
        ({"target": "skylake"}, "invalid_target", "skylake"),
        ({"target": 5}, "invalid_request", "target"),
        ({"target": {"kind": "cuda"}}, "invalid_target", "arch"),
        ({"target": "nvidia/nvidia-z9"}, "invalid_target", "nvidia/nvidia-z9"),
        ({"space": "narrow"}, "invalid_input", "default, stock"),
        ({"budget": {"trials": None, "seconds": None}}, "invalid_input", "budget"),
        ({"budget": {"trials": 0}}, "invalid_request", "budget.trials"),
        ({"budget": {"trials": 10**12}}, "invalid_request", "budget.trials"),
        ({"budget": {"seconds": -1}}, "invalid_request", "budget.seconds"),
        (
            {"budget": {"trials": 4, "least_gain": 1}},
            "invalid_request",
            "budget.least_gain",
        ),
        ({"budget": {"least_gain": 0.01}}, "invalid_input", "budget"),
        ({"priority": 1000}, "invalid_request", "priority"),
        ({"seed": -1}, "invalid_request", "seed"),
        ({"deadline": 60}, "invalid_request", "deadline"),
    ],
)
def test_a_bad_request_is_told_what_to_mend(
    shared: Server, changes: dict[str, object], error: str, says: str
) -> None:
    request = {"workload": MATMUL, "target": CPU, "budget": {"trials": 8}, **changes}
    answer = shared.http.post("/v1/jobs", json=request)
    assert answer.status_code == 422
    body = answer.json()
    assert body["error"] == error
    assert says in body["detail"]
    assert shared.http.get("/v1/jobs").json()["items"] == []


def test_a_tag_of_tvm_names_a_target(server: Server) -> None:
    by_tag = server.submit(target="nvidia/nvidia-h100")
    written = server.submit(target={"kind": "cuda", "arch": "sm_90a"}, seed=1)
    assert by_tag["target_id"] == written["target_id"]


def test_native_is_the_one_target_of_the_live_workers(server: Server) -> None:
    nobody = server.http.post("/v1/jobs", json={"workload": MATMUL})
    assert nobody.status_code == 409
    assert "tunesmith worker" in nobody.json()["detail"]

    server.register("one")
    server.register("two")
    job = server.submit(target="native")
    assert job["waiting_for"] == "its turn"

    server.register("three", OTHER_CPU)
    several = server.http.post("/v1/jobs", json={"workload": MATMUL})
    assert several.status_code == 409
    for target in server.http.get("/v1/targets").json()["items"]:
        assert target["target_id"] in several.json()["detail"]


def test_a_cpu_is_that_of_the_workers_with_what_they_lack(server: Server) -> None:
    described = {"kind": "llvm", "mcpu": "sapphirerapids", "num-cores": 2}
    early = server.submit(target=described, seed=1)
    lacking = {**described, "mattr": ["-amx-int8"]}
    server.register("one", lacking)
    meant = server.submit(target=described, seed=2)
    assert meant["target_id"] == server.submit(target=lacking, seed=4)["target_id"]
    assert meant["target_id"] != early["target_id"]
    server.register("two", described)
    # Now there are workers of both kinds, and what was written is one of them.
    assert server.submit(target=described, seed=3)["target_id"] == early["target_id"]


def test_a_target_can_be_named_by_its_id(server: Server) -> None:
    first = server.submit()
    named = server.submit(target=first["target_id"])
    assert named["id"] == first["id"]
    unknown = server.http.post("/v1/jobs", json={"workload": MATMUL, "target": "0" * 64})
    assert unknown.status_code == 404


def test_a_job_without_a_worker_says_what_it_waits_for(server: Server) -> None:
    job = server.submit()
    assert "worker" in job["waiting_for"]
    server.register()
    assert server.http.get(f"/v1/jobs/{job['id']}").json()["waiting_for"] == "its turn"


def test_a_gpu_job_waits_for_a_worker_of_its_gpu_and_no_other(server: Server) -> None:
    server.register()
    job = server.submit(target={"kind": "cuda", "arch": "sm_90a"})
    assert "a worker of this target" in job["waiting_for"]


def test_ir_is_parsed_once_and_known_operators_not_at_all(server: Server) -> None:
    server.submit(workload={"ir": "program one", "name": "mine"})
    server.submit(workload={"ir": "program one", "name": "mine"})
    assert server.parser.resolved == 1
    server.submit()
    server.submit()
    assert server.parser.resolved == 2


def test_too_many_active_jobs_are_told_to_wait(tmp_path: Path) -> None:
    with live_server(tmp_path, max_active_jobs=2) as server:
        server.submit(seed=1)
        server.submit(seed=2)
        answer = server.http.post("/v1/jobs", json={"workload": MATMUL, "target": CPU})
        assert answer.status_code == 429
        assert answer.json()["error"] == "too_many_jobs"
        assert int(answer.headers["retry-after"]) >= 1


def test_cancelling_ends_a_job_once(server: Server) -> None:
    job = server.submit()
    cancelled = server.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert cancelled.status_code == 200
    assert cancelled.json()["state"] == "cancelled"
    assert cancelled.json()["waiting_for"] is None
    assert server.http.post(f"/v1/jobs/{job['id']}/cancel").json() == cancelled.json()
    assert server.submit()["id"] != job["id"]


def test_cancelling_stops_the_worker_at_its_next_heartbeat(server: Server) -> None:
    worker_id = server.register()
    job = server.submit()
    server.enqueue()
    lease = server.lease(worker_id).json()
    beat = {"epoch": lease["epoch"]}
    path = f"/v1/leases/{lease['lease_id']}/heartbeat"
    assert server.http.post(path, json=beat).json()["command"] == "continue"
    server.http.post(f"/v1/jobs/{job['id']}/cancel")
    assert server.http.post(path, json=beat).json()["command"] == "cancel"


def test_jobs_are_listed_newest_first_in_pages(server: Server) -> None:
    ids = [server.submit(seed=seed)["id"] for seed in range(5)]
    listed, cursor = [], None
    while True:
        page = server.http.get(
            "/v1/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        assert len(page["items"]) <= 2
        listed += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert listed == ids[::-1]
    server.http.post(f"/v1/jobs/{ids[0]}/cancel")
    assert len(server.http.get("/v1/jobs", params={"state": "queued"}).json()["items"]) == 4
    for bad in ({"state": "lost"}, {"limit": 0}, {"limit": 1001}, {"cursor": "garbage"}):
        assert server.http.get("/v1/jobs", params=bad).status_code == 422


def test_a_job_counts_its_failures(server: Server) -> None:
    worker_id = server.register()
    job = server.submit()
    server.enqueue(count=3)
    lease = server.lease(worker_id).json()
    # A compiler that crashes may print anything.
    failed = {"failure": {"kind": "build_error", "detail": "no\u0000good \U0001f600"}}
    results = [{"item_id": item["item_id"], "result": failed} for item in lease["items"]]
    assert server.report(lease, worker_id, results=results).status_code == 200
    seen = server.http.get(f"/v1/jobs/{job['id']}").json()
    assert seen["trials_done"] == 3
    assert seen["failures"] == {"build_error": 3}


def test_a_failed_job_says_why(server: Server) -> None:
    job = server.submit()
    claim(server.store, OWNER, 60)
    server.store.finish_job(job["id"], OWNER, error="the search died")
    seen = server.http.get(f"/v1/jobs/{job['id']}").json()
    assert (seen["state"], seen["error"]) == ("failed", "the search died")
    assert seen["finished_at"] is not None


def test_unknown_jobs_are_not_found(shared: Server) -> None:
    for path in ("/v1/jobs/nope", "/v1/jobs/nope/events", "/v1/jobs/%00"):
        assert shared.http.get(path).status_code == 404
    assert shared.http.post("/v1/jobs/nope/cancel").status_code == 404
