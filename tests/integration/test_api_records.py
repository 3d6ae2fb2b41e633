import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schedules.records import PROTOCOL_VERSION, Best, Environment, Tier
from tests.integration.api_server import CPU, MATMUL, OTHER_CPU, Server, candidate, live_server

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with live_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for tests that leave nothing behind."""
    with live_server(tmp_path_factory.mktemp("shared")) as running:
        yield running


def imported(number: int = 0, secs: float = 1e-3, **changes: Any) -> dict[str, Any]:
    return {
        "workload": MATMUL,
        "target": CPU,
        "trace": json.loads(candidate(number).trace),
        "run_secs": [secs * 1.01, secs * 1.5, secs * 0.995, secs],
        **changes,
    }


def do_import(server: Server, *records: dict[str, Any]) -> dict[str, int]:
    answer = server.http.post("/v1/records/import", json={"records": list(records)})
    assert answer.status_code == 200, answer.text
    counts: dict[str, int] = answer.json()
    return counts


def best_of(server: Server, **changes: Any) -> dict[str, Any]:
    answer = server.http.post("/v1/best", json={"workload": MATMUL, "target": CPU, **changes})
    assert answer.status_code == 200, answer.text
    view: dict[str, Any] = answer.json()
    return view


def test_records_are_filtered_and_paged_newest_first(server: Server) -> None:
    worker_id = server.register()
    job = server.submit()
    server.enqueue(count=5)
    before = datetime.now(UTC).isoformat()
    lease = server.lease(worker_id).json()
    ids = [item["item_id"] for item in lease["items"]]
    for number, item_id in enumerate(ids):
        result: dict[str, Any] = {"run_secs": [1e-3]}
        if number == 3:
            result = {"failure": {"kind": "run_timeout", "detail": "too slow"}}
        results = [{"item_id": item_id, "result": result}]
        assert server.report(lease, worker_id, results=results).status_code == 200

    def ids_of(**filters: Any) -> list[str]:
        answer = server.http.get("/v1/records", params=filters)
        assert answer.status_code == 200, answer.text
        return [record["record_id"] for record in answer.json()["items"]]

    assert ids_of() == ids[::-1]
    assert ids_of(job_id=job["id"], worker_id=worker_id, limit=2) == ids[:2:-1]
    assert ids_of(workload_id=job["workload_id"], target_id=job["target_id"]) == ids[::-1]
    assert ids_of(workload_id="other") == []
    assert ids_of(failure="run_timeout") == [ids[3]]
    assert ids_of(failure="wrong_output") == []
    assert ids_of(since=before) == ids[::-1]
    assert ids_of(since=before.replace("+00:00", "")) == ids[::-1]
    assert ids_of(since="2200-01-01") == []
    # As curl sends it: the plus is not escaped and means a blank.
    answer = server.http.get(f"/v1/records?since={before}")
    assert len(answer.json()["items"]) == 5

    first = server.http.get("/v1/records", params={"limit": 3}).json()
    rest = server.http.get("/v1/records", params={"limit": 3, "cursor": first["next_cursor"]})
    assert [item["record_id"] for item in rest.json()["items"]] == ids[1::-1]
    assert rest.json()["next_cursor"] is None

    record = first["items"][0]
    assert record["run_secs"] == [1e-3]
    assert record["latency_secs"] == 1e-3
    assert record["trace"] == json.loads(candidate(4).trace)
    assert record["protocol_version"] == PROTOCOL_VERSION
    failed = server.http.get("/v1/records", params={"failure": "run_timeout"}).json()["items"][0]
    assert (failed["latency_secs"], failed["failure_detail"]) == (None, "too slow")

    lines = server.http.get("/v1/records", params={"job_id": job["id"]}, headers=NDJSON)
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["record_id"] for line in lines.text.splitlines()] == ids[::-1]


@pytest.mark.parametrize(
    "filters",
    [
        {"failure": "lost"},
        {"since": "yesterday"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"since": "9999-12-31T23:59:59-14:00"},
        {"limit": "many"},
        {"limit": 10**30},
        {"cursor": "\u00e9"},
        {"cursor": "AAAA"},
        {"cursor": "x" * 5000},
        {"worker_id": "x" * 5000},
    ],
)
def test_bad_filters_are_refused(shared: Server, filters: dict[str, Any]) -> None:
    answer = shared.http.get("/v1/records", params=filters)
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "detail"}


def test_many_records_stream_line_by_line(server: Server) -> None:
    for start in range(0, 1500, 500):
        do_import(server, *(imported(number) for number in range(start, start + 500)))
    with server.http.stream("GET", "/v1/records", headers=NDJSON) as answer:
        ids = [json.loads(line)["record_id"] for line in answer.iter_lines()]
    assert len(set(ids)) == len(ids) == 1500


def test_imported_records_are_stored_once_and_the_fastest_is_published(server: Server) -> None:
    slow, fast = imported(1, 2e-3), imported(2, 1e-3)
    elsewhere = imported(1, 5e-3, target=OTHER_CPU)
    assert do_import(server, slow, fast, elsewhere) == {"stored": 3, "known": 0, "published": 2}
    assert do_import(server, slow, fast, elsewhere) == {"stored": 0, "known": 3, "published": 0}

    best = best_of(server)
    assert best["latency_secs"] == 1e-3
    assert best["latency_interval_secs"] == [pytest.approx(0.995e-3), pytest.approx(1.01e-3)]
    assert best["tier"] == "exact"
    assert not best["verified"]
    assert best["default_latency_secs"] is None
    assert best["speedup"] is None
    assert best["trace"] == fast["trace"]
    assert best_of(server, target=OTHER_CPU)["latency_secs"] == 5e-3

    records = server.http.get("/v1/records").json()["items"]
    assert {record["origin"] for record in records} == {"imported"}
    assert {record["protocol_version"] for record in records} == {0}
    assert best["record_id"] in {record["record_id"] for record in records}

    assert do_import(server, imported(3, 0.5e-3))["published"] == 1
    assert best_of(server)["latency_secs"] == 0.5e-3


def test_an_import_replaces_only_what_is_slower(server: Server) -> None:
    job = server.submit()
    stored = Best(
        tier=Tier.EXACT,
        workload_id=job["workload_id"],
        target_id=job["target_id"],
        latency_secs=1e-3,
        latency_interval_secs=(0.9e-3, 1.1e-3),
        default_latency_secs=4e-3,
        trace=candidate(0).trace,
        trace_id=candidate(0).trace_id,
        verified=True,
        record_id="measured",
        environment=Environment(),
        model_version=None,
        created_at=datetime.now(UTC),
    )
    server.store.publish(stored, None, None)
    assert do_import(server, imported(1, 2e-3)) == {"stored": 1, "known": 0, "published": 0}
    best = best_of(server)
    assert (best["record_id"], best["speedup"]) == ("measured", 4.0)
    assert best["default_latency_secs"] == 4e-3
    assert server.http.get(f"/v1/jobs/{job['id']}").json()["best"] == best


def test_an_import_is_stored_whole_or_not_at_all(server: Server) -> None:
    def refused(record: dict[str, Any]) -> dict[str, str]:
        body = {"records": [imported(0), record]}
        answer = server.http.post("/v1/records/import", json=body)
        assert answer.status_code == 422
        error: dict[str, str] = answer.json()
        return error

    assert refused(imported(workload={"op": "nope"}))["error"] == "unknown_operator"
    assert "records[1]" in refused(imported(workload={"op": "nope"}))["detail"]
    assert refused(imported(workload={"ir": "bad"}))["error"] == "invalid_workload"
    assert refused(imported(target={"kind": "llvm"}))["error"] == "invalid_target"
    assert "records[1].run_secs" in refused(imported(run_secs=[]))["detail"]
    assert "records[1].run_secs[0]" in refused(imported(run_secs=[0]))["detail"]
    assert "records[1].trace" in refused(imported(trace=[[]]))["detail"]
    assert server.http.get("/v1/records").json()["items"] == []
    answer = server.http.post("/v1/records/import", json={"records": []})
    assert answer.status_code == 422


def test_booleans_in_traces_are_numbers(server: Server) -> None:
    one, other = imported(trace=[[["A", [], [True]]], []]), imported(trace=[[["A", [], [1]]], []])
    assert do_import(server, one, other)["stored"] == 1


def test_a_best_is_looked_up_by_ids_and_by_what_it_is_for(server: Server) -> None:
    do_import(server, imported())
    best = best_of(server)
    ids = {"workload_id": best["workload_id"], "target_id": best["target_id"]}
    assert server.http.get("/v1/best", params=ids).json() == best
    assert best_of(server, target=best["target_id"], deadline_secs=60) == best
    server.register()
    assert best_of(server, target="native") == best
    assert server.http.get("/v1/bests").json() == {"items": [best], "next_cursor": None}
    for name in ids:
        found = server.http.get("/v1/bests", params={name: ids[name]}).json()["items"]
        assert found == [best]
        assert server.http.get("/v1/bests", params={name: "other"}).json()["items"] == []


def test_looking_up_parses_no_operator_and_stores_nothing(server: Server) -> None:
    do_import(server, imported())
    parsed = server.parser.resolved
    best_of(server)
    unknown = {"workload": {"op": "matmul", "args": {"n": 8, "m": 8, "k": 8}}, "target": CPU}
    assert server.http.post("/v1/best", json=unknown).status_code == 404
    assert server.parser.resolved == parsed
    unknown["workload"] = {"ir": "program"}
    assert server.http.post("/v1/best", json=unknown).status_code == 404
    assert len(server.http.get("/v1/workloads").json()["items"]) == 1


def test_what_has_no_best_is_not_found_with_advice(server: Server) -> None:
    job = server.submit()
    by_ids = server.http.get(
        "/v1/best", params={"workload_id": job["workload_id"], "target_id": job["target_id"]}
    )
    assert by_ids.status_code == 404
    assert "POST /v1/jobs" in by_ids.json()["detail"]
    described = {"workload": MATMUL, "target": CPU}
    assert server.http.post("/v1/best", json=described).status_code == 404
    # A record for one target is no answer for another.
    do_import(server, imported())
    assert server.http.post("/v1/best", json={**described, "target": OTHER_CPU}).status_code == 404
    assert server.http.get("/v1/best").status_code == 422
    for bad in ({"deadline_secs": 0}, {"deadline_secs": 1e9}, {"deadline_secs": "soon"}):
        assert server.http.post("/v1/best", json={**described, **bad}).status_code == 422
    assert server.http.post("/v1/best", json={"workload": MATMUL}).status_code == 409


def test_workloads_targets_models_and_operators_are_listed(server: Server) -> None:
    job = server.submit()
    (workload,) = server.http.get("/v1/workloads").json()["items"]
    assert workload["workload_id"] == job["workload_id"]
    assert (workload["op"], workload["args"]) == ("matmul", MATMUL["args"])
    assert workload["flops"] == 2 * 64**3
    assert workload["ir"] is None
    whole = server.http.get(f"/v1/workloads/{job['workload_id']}").json()
    assert "matmul" in whole["ir"]
    assert {**whole, "ir": None} == workload
    (target,) = server.http.get("/v1/targets").json()["items"]
    assert target == {"target_id": job["target_id"], "target": CPU}
    assert server.http.get(f"/v1/targets/{job['target_id']}").json() == target
    for path in ("/v1/workloads/nope", "/v1/targets/nope"):
        assert server.http.get(path).status_code == 404
    assert server.http.get("/v1/models").json() == {"items": [], "next_cursor": None}
    operators = server.http.get("/v1/operators").json()["items"]
    (matmul,) = (operator for operator in operators if operator["name"] == "matmul")
    assert [argument["name"] for argument in matmul["arguments"]] == ["n", "m", "k"]
    assert "float32" in matmul["dtypes"]
