"""The MLflow sink: against nobody, and against a real tracking server."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.mlflow_sink import MlflowSink
from tests.benchmarks.service import rivals
from tests.contracts.store_values import best, failed
from tests.contracts.test_store_models import version as model_version
from tests.integration.api_server import OWNER, Server, live_server
from tests.processes import free_port
from tuner.client import convert

START_SECS = 90.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with live_server(tmp_path) as running:
        yield running


def ended_job(server: Server) -> str:
    """Run a job of three trials, one of which fails, to its end; return its id."""
    worker_id = server.register()
    submitted = server.submit()
    server.enqueue(count=3)
    lease = server.lease(worker_id).json()
    secs = [2e-3, None, 1e-3]
    results = [
        {
            "item_id": item["item_id"],
            "result": {"run_secs": [value]}
            if value
            else convert.result_to_wire(failed()).model_dump(mode="json"),
        }
        for item, value in zip(lease["items"], secs, strict=True)
    ]
    assert server.report(lease, worker_id, results=results).status_code == 200
    found = best(1e-3, workload_id=submitted["workload_id"], target_id=submitted["target_id"])
    server.store.publish(found, OWNER, submitted["id"])
    server.store.finish_job(submitted["id"], OWNER, error="to see it fail")
    job_id: str = submitted["id"]
    return job_id


def test_a_server_that_is_not_there_harms_nothing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = ended_job(server)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        sink = MlflowSink(
            server.store, f"http://127.0.0.1:{nobody.getsockname()[1]}", pause_secs=0.01
        )
        sink.start()
        for name in (job_id, "unknown"):
            sink.job_ended(name)
        deadline = time.monotonic() + 30
        while "unknown" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        sink.stop()
        sink.stop()
    assert f"Job {job_id} is not sent to MLflow" in caplog.text
    assert server.http.get(f"/v1/jobs/{job_id}").json()["state"] == "failed"


def test_jobs_beyond_what_may_wait_are_left_out(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.mlflow_sink.WAITING", 1)
    sink = MlflowSink(server.store, "http://127.0.0.1:9")
    sink.job_ended("one")
    sink.job_ended("two")
    assert "job two is not sent" in caplog.text
    sink.stop()


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[str]:
    """A real tracking server that passes artefacts on."""
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(str(rivals.environment() / "mlflow"), "server", "--host", "127.0.0.1"),
                *("--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"),
                *("--artifacts-destination", str(tmp_path / "artefacts")),
            ],
            env={**os.environ, "PATH": f"{rivals.environment()}:{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            cwd=tmp_path,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + START_SECS
            while not _answers(url):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.3)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_becomes_a_run_with_its_figures_and_files(
    server: Server, mlflow: str, tmp_path: Path
) -> None:
    job_id = ended_job(server)
    sink = MlflowSink(server.store, mlflow)
    sink.start()
    sink.job_ended(job_id)
    with httpx.Client(base_url=f"{mlflow}/api/2.0/mlflow", timeout=30) as http:
        deadline = time.monotonic() + 60
        runs: list[Any] = []
        while not runs or runs[0]["info"]["status"] == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.2)
            known = http.get("/experiments/get-by-name", params={"experiment_name": "tunesmith"})
            if known.is_success:
                ids = [known.json()["experiment"]["experiment_id"]]
                answer = http.post("/runs/search", json={"experiment_ids": ids})
                runs = answer.json().get("runs", [])
        (run,) = runs
        sink.stop()
        assert run["info"]["status"] == "FAILED"
        data = run["data"]
        metrics = {item["key"]: item["value"] for item in data["metrics"]}
        assert metrics["best_latency_secs"] == 1e-3
        assert (metrics["trials"], metrics["failures.build_error"]) == (3, 1)
        parameters = {item["key"]: item["value"] for item in data["params"]}
        assert (parameters["operator"], parameters["args.n"]) == ("matmul", "64")
        run_id = run["info"]["run_id"]
        history = http.get(
            "/metrics/get-history", params={"run_id": run_id, "metric_key": "trial_best_secs"}
        ).json()["metrics"]
        assert [(point["step"], point["value"]) for point in history] == [(1, 2e-3), (3, 1e-3)]
    files = {path.name: path for path in (tmp_path / "artefacts").rglob("*") if path.is_file()}
    assert set(files) == {"best.json", "records.ndjson"}
    assert len(files["records.ndjson"].read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_versions_of_the_cost_model_are_in_the_registry(
    server: Server, mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.mlflow_sink.LOOK_SECS", 0.2)
    store = server.store

    store.add_model_version(model_version("first"), content=b"model", judge=b"judge")
    store.promote_model("first")
    sink = MlflowSink(store, mlflow)
    sink.start()
    with httpx.Client(base_url=f"{mlflow}/api/2.0/mlflow", timeout=30) as http:

        def promoted() -> dict[str, str]:
            query = {"name": "tunesmith-cost-model", "alias": "promoted"}
            answer = http.get("/registered-models/alias", params=query)
            found = answer.json().get("model_version", {})
            return {tag["key"]: tag["value"] for tag in found.get("tags", ())}

        def await_promoted(version: str | None) -> None:
            deadline = time.monotonic() + 60
            while promoted().get("tunesmith.version") != version:
                assert time.monotonic() < deadline
                time.sleep(0.1)

        await_promoted("first")
        second = model_version("second", 1, parent="first")
        store.add_model_version(second, content=b"other", judge=b"judge")
        store.promote_model("second")
        await_promoted("second")
        assert promoted()["tunesmith.parent"] == "first"
        sink.stop()
        # Another process knows what was sent.
        again = MlflowSink(store, mlflow)
        again.start()
        store.roll_back_model()
        await_promoted("first")
        again.stop()
        # What was rolled back while nobody looked is noticed as well.
        store.roll_back_model()
        last = MlflowSink(store, mlflow)
        last.start()
        await_promoted(None)
        last.stop()
        query = {"filter": "name='tunesmith-cost-model'"}
        versions = http.get("/model-versions/search", params=query).json()["model_versions"]
        assert len(versions) == 2
        run = http.get("/runs/get", params={"run_id": versions[0]["run_id"]}).json()["run"]
        metrics = {item["key"]: item["value"] for item in run["data"]["metrics"]}
        assert metrics == {"shape.pairwise_accuracy": 0.75}
