"""Export and import against a made-up server that keeps what it is sent."""

import json
from typing import Any

import httpx
import pytest
import tvm
from click.testing import CliRunner
from tvm.s_tir import meta_schedule as ms

from schedules.ir import module_of, workload_from_ir
from schedules.target import Target
from schedules.trace import canonical_trace
from tests.programs import ir_json, matmul
from tests.unit.tuner.test_client_sdk import best_body, record_body
from tuner.cli import files, main
from tuner.client import convert
from tuner.client.sdk import Client
from tuner.meta_schedule_files import read_files

CPU = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})


class FakeServer:
    def __init__(self):
        self.workload = workload_from_ir(ir_json(matmul(16, 8, 4)))
        self.bests = []
        self.records = []
        self.imported = []

    def __call__(self, request):
        body: dict[str, Any]
        pages = {"/v1/bests": self.bests, "/v1/records": self.records}
        if request.url.path in pages:
            body = {"items": pages[request.url.path], "next_cursor": None}
        elif request.url.path == f"/v1/workloads/{self.workload.workload_id}":
            body = convert.workload_to_wire(self.workload).model_dump(mode="json")
        elif request.url.path == f"/v1/targets/{CPU.target_id}":
            body = {"target_id": CPU.target_id, "target": CPU.as_dict()}
        else:
            assert request.url.path == "/v1/records/import"
            sent = json.loads(request.content)["records"]
            self.imported += sent
            body = {"stored": len(sent), "known": 0, "published": 1}
        return httpx.Response(200, json=body)

    def ids(self):
        return {"workload_id": self.workload.workload_id, "target_id": CPU.target_id}

    def trace(self, factor):
        schedule = tvm.s_tir.Schedule(module_of(self.workload))
        loop = schedule.get_loops(schedule.get_sblock("C"))[0]
        schedule.parallel(schedule.split(loop, [None, factor])[0])
        return json.loads(canonical_trace(schedule.trace))


@pytest.fixture
def server(monkeypatch):
    server = FakeServer()
    monkeypatch.setattr(
        files,
        "open_client",
        lambda url, token: Client(url, http=httpx.Client(transport=httpx.MockTransport(server))),
    )
    return server


def run(*arguments):
    return CliRunner().invoke(main, arguments, prog_name="tunesmith")


def test_bests_are_exported_for_the_stock_database(server, tmp_path):
    best = {**best_body(), **server.ids(), "trace": server.trace(4)}
    server.bests = [best, {**best_body(), **server.ids(), "tier": "default", "trace": [[], []]}]
    result = run("export", "--format", "meta-schedule", "--out", str(tmp_path / "out"), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["records"] == 1
    database = ms.database.JSONDatabase(work_dir=str(tmp_path / "out"))
    found = database.query_tuning_record(
        module_of(server.workload), tvm.target.Target(CPU.as_dict()), "main"
    )
    assert json.loads(canonical_trace(found.trace)) == server.trace(4)


def test_all_exports_every_measured_record(server, tmp_path):
    measured = [
        {**record_body(f"r{n}"), **server.ids(), "trace": server.trace(n), "run_secs": [n * 1e-3]}
        for n in (4, 2)
    ]
    failed = {**record_body("bad"), **server.ids(), "latency_secs": None, "run_secs": []}
    server.records = [*measured, failed]
    result = run("export", "--all", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert [entry.run_secs for entry in read_files(tmp_path)] == [(2e-3,), (4e-3,)]


def test_nothing_to_export_is_a_failure(server, tmp_path):
    result = run("export", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "nothing to export" in result.stderr


def test_an_export_comes_back_by_import(server, tmp_path):
    server.bests = [{**best_body(), **server.ids(), "trace": server.trace(4)}]
    assert run("export", "--out", str(tmp_path)).exit_code == 0
    assert run("export", "--out", str(tmp_path)).exit_code == 1
    result = run("import", str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["stored"] == 1
    [record] = server.imported
    assert workload_from_ir(record["workload"]["ir"]).workload_id == server.workload.workload_id
    assert record["trace"] == server.trace(4)
    assert record["target"] == CPU.as_dict()
    assert record["run_secs"] == [1e-3]


def test_files_that_are_not_there_are_wrong_usage(server, tmp_path):
    result = run("import", str(tmp_path))
    assert result.exit_code == 2
    assert "database_workload.json" in result.stderr
