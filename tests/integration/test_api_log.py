"""The tuning log over HTTP: filters, summaries, exports, and queries that are refused."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from schedules.records import FailureKind
from service.parquet import SCHEMA
from tests.integration.api_server import CPU, Server, candidate, live_server
from tuner.client import wire

NDJSON = {"Accept": "application/x-ndjson"}
PARQUET = {"Accept": "application/vnd.apache.parquet"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with records that nothing here changes."""
    with live_server(tmp_path_factory.mktemp("log")) as running:
        fill(running)
        yield running


def fill(server: Server) -> None:
    """Measure four candidates, of which two fail, and import one record."""
    worker_id = server.register()
    server.submit()
    server.enqueue(count=4)
    lease = server.lease(worker_id).json()
    results: list[dict[str, Any]] = [
        {"run_secs": [1e-3]},
        {"run_secs": [4e-3], "censored_secs": 4e-3},
        {"failure": {"kind": "run_timeout", "detail": "<script>alert(1)</script>"}},
        {"failure": {"kind": "build_error", "detail": "'; DROP TABLE records; --"}},
    ]
    items = [item["item_id"] for item in lease["items"]]
    answer = server.report(
        lease,
        worker_id,
        results=[
            {"item_id": item, "result": result} for item, result in zip(items, results, strict=True)
        ],
    )
    assert answer.status_code == 200, answer.text
    imported = {
        "workload": {"ir": "program"},
        "target": CPU,
        "run_secs": [2e-3],
        "trace": json.loads(candidate(9).trace),
    }
    answer = server.http.post("/v1/records/import", json={"records": [imported]})
    assert answer.status_code == 200, answer.text


def found(server: Server, **filters: Any) -> list[dict[str, Any]]:
    answer = server.http.get("/v1/records", params=filters)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_records_are_filtered_by_what_they_hold(server: Server) -> None:
    assert len(found(server)) == 5
    assert len(found(server, operator="matmul")) == 4
    assert {item["operator"] for item in found(server, operator="matmul")} == {"matmul"}
    assert [item["origin"] for item in found(server, operator="none")] == ["imported"]
    assert [item["failure"] for item in found(server, failure="none")] == [None] * 3
    assert len(found(server, failure="run_timeout")) == 1
    assert len(found(server, latency_min_secs=1.5e-3)) == 1
    assert len(found(server, censored="true")) == 1
    assert len(found(server, protocol_version=0)) == 1
    assert len(found(server, space="default")) == 4
    assert found(server, until="2000-01-01") == []
    assert found(server, device="no such device") == []


@pytest.mark.parametrize("path", ["/v1/records", "/v1/records/summary?group_by=day"])
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("opreator=matmul", "opreator"),
        ("worker=w", "worker_id"),
        ("failure=broken", "failure"),
        ("failure=broken", "run_timeout"),
        ("since=yesterday", "since"),
        ("until=9999-12-31T23:59:59-14:00", "until"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("latency_max_secs=fast", "latency_max_secs"),
        ("latency_min_secs=nan", "latency_min_secs"),
        ("latency_min_secs=-1", "latency_min_secs"),
        ("protocol_version=1.5", "protocol_version"),
        ("protocol_version=99999999999", "protocol_version"),
        ("censored=perhaps", "censored"),
        ("purpose=play", "purpose"),
        ("job_id=", "job_id"),
        ("job_id=a&job_id=b", "job_id"),
        ("<script>alert(1)</script>=1", "script"),
        ("created_at%20DESC;%20DROP%20TABLE%20records;--=1", "DROP TABLE"),
    ],
)
def test_bad_queries_are_refused_with_the_field(
    server: Server, path: str, query: str, named: str
) -> None:
    answer = server.http.get(f"{path}{'&' if '?' in path else '?'}{query}")
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "detail"}
    assert named in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/json"


def test_unknown_fields_are_told_the_known_ones(server: Server) -> None:
    for path, model in (
        ("/v1/records", wire.RecordPageQuery),
        ("/v1/records/summary", wire.SummaryQuery),
    ):
        detail = server.http.get(f"{path}?group_by=day&opreator=1").json()["detail"]
        for name in model.model_fields:
            assert name in detail


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE records; --", "<img src=x onerror=alert(1)>", "%", "\\", "\u2028"]
)
def test_what_is_injected_is_text(server: Server, text: str) -> None:
    for name in ("operator", "job_id", "device", "model_version", "trace_id", "space"):
        assert found(server, **{name: text}) == []
        answer = server.http.get("/v1/records/summary", params={"group_by": "operator", name: text})
        assert answer.json()["groups"] == []
    assert len(found(server)) == 5


def test_a_summary_groups_what_passes(server: Server) -> None:
    def groups(**query: Any) -> dict[str | None, dict[str, Any]]:
        answer = server.http.get("/v1/records/summary", params=query)
        assert answer.status_code == 200, answer.text
        view = answer.json()
        assert view["complete"]
        assert view["source"] == ("records" if "job_id" in query else "counters")
        return {group["key"]: group for group in view["groups"]}

    operators = groups(group_by="operator")
    assert {key: group["records"] for key, group in operators.items()} == {"matmul": 4, None: 1}
    matmul = operators["matmul"]
    assert (matmul["measured"], matmul["censored"]) == (1, 1)
    assert matmul["failures"] == {"run_timeout": 1, "build_error": 1}
    assert matmul["latency_secs"]["p50"] == pytest.approx(1e-3, rel=0.051)
    today = datetime.now(UTC).date().isoformat()
    assert groups(group_by="day", operator="matmul")[today]["records"] == 4
    assert set(groups(group_by="failure", failure="run_timeout")) == {"run_timeout"}
    assert groups(group_by="worker", worker_id="nobody") == {}
    (job,) = server.http.get("/v1/jobs").json()["items"]
    of_job = groups(group_by="failure", job_id=job["id"])
    assert {key: group["records"] for key, group in of_job.items()} == {
        None: 2,
        "run_timeout": 1,
        "build_error": 1,
    }
    assert server.http.get("/v1/records/summary?group_by=colour").status_code == 422
    assert server.http.get("/v1/records/summary").status_code == 422


def test_lines_are_filtered_as_pages_are(server: Server) -> None:
    several: list[dict[str, Any]] = [
        {},
        {"operator": "matmul"},
        {"failure": "none", "operator": "matmul"},
    ]
    for filters in several:
        answer = server.http.get("/v1/records", params=filters, headers=NDJSON)
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert lines == found(server, **filters)
    refused = server.http.get("/v1/records?nonsense=1", headers=NDJSON)
    assert refused.status_code == 422


def test_a_parquet_file_has_the_documented_columns(server: Server) -> None:
    answer = server.http.get("/v1/records", headers=PARQUET)
    assert answer.headers["content-type"] == PARQUET["Accept"]
    table = parquet.read_table(io.BytesIO(answer.content))
    assert table.schema.equals(SCHEMA)
    for row, view in zip(table.to_pylist(), found(server), strict=True):
        row["trace"] = json.loads(row["trace"])
        row["environment"] = json.loads(row["environment"])
        row["created_at"] = row["created_at"].isoformat().replace("+00:00", "Z")
        assert row == view
    empty = server.http.get("/v1/records", params={"job_id": "none"}, headers=PARQUET)
    assert parquet.read_table(io.BytesIO(empty.content)).num_rows == 0


def test_the_documentation_names_every_field_and_column() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tuning-log.md").read_text(encoding="utf-8")
    for name in (*wire.RecordPageQuery.model_fields, *SCHEMA.names, *wire.GroupView.model_fields):
        assert f"`{name}`" in text, name
    for kind in FailureKind:
        assert f"`{kind.value}`" in text


def test_metrics_tell_of_the_queue_the_fleet_and_the_log(server: Server) -> None:
    text = server.http.get("/metrics").text
    assert 'tunesmith_records_total{outcome="measured"} 2.0' in text
    assert 'tunesmith_records_total{outcome="censored"} 1.0' in text
    assert 'tunesmith_records_total{outcome="run_timeout"} 1.0' in text
    assert "tunesmith_worker_utilisation 0.0" in text
    assert "tunesmith_lease_wait_seconds_count 1.0" in text
    (target,) = {job["target_id"] for job in server.http.get("/v1/jobs").json()["items"]}
    server.submit(seed=1)
    server.enqueue(count=1)
    text = server.http.get("/metrics").text
    assert f'tunesmith_batches_ready{{target_id="{target}"}} 1.0' in text
