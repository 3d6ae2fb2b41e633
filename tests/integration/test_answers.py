"""Graded answers: what a server tells of workloads that it never measured."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cost_model.columns import FEATURE_VERSION
from cost_model.training import train
from cost_model.versions import ModelVersion, TrainedOn, version_of
from schedules.identity import canonical_json
from schedules.ir import module_of, workload_from_ir
from schedules.records import Best, Environment, Tier
from schedules.trace import replay
from schedules.workload import Workload
from service.db.model_values import DatasetQuery
from service.db.store import Store
from tests import programs
from tests.integration.api_server import Server, live_server
from tests.lessons import TARGET, matmul, records_of, teach
from tuner.client import convert
from tuner.learning.features import rows_of_traces

LEARNT = (matmul(64, 64, 64), matmul(128, 64, 32), matmul(32, 128, 64))
NEAR = matmul(96, 64, 64)
BETWEEN = matmul(192, 96, 64)
"""Farther from what is learnt than the model chooses, nearer than it is asked at all."""
FAR = matmul(2048, 2048, 2048)


def learn(store: Store) -> str:
    """Train a version from what is stored, and bring it into use."""
    while (found := store.featureless()[0]) is not None:
        workload = convert.workload_to_wire(store.workload(found.workload_id))
        rows = rows_of_traces(workload, TARGET.as_dict(), found.traces)
        store.save_features(found.workload_id, found.target_id, rows)
    cut = store.cut_dataset(DatasetQuery())
    trained = train(cut.training_set)
    version = ModelVersion(
        version=version_of(trained.content),
        created_at=datetime.now(UTC),
        parent=None,
        feature_version=FEATURE_VERSION,
        code_version="0",
        trained_on=TrainedOn(query={}, digest="", rows=96, failed=6, censored=0, groups=3),
        metrics=trained.metrics,
    )
    store.add_model_version(version, content=trained.content, judge=trained.judge)
    store.promote_model(version.version)
    return version.version


def publish_best(store: Store, workload: Workload, *, place: int = 0) -> Best:
    """Publish the trial of a workload that is at this place, in the order of latencies."""
    trials = store.trials(workload.workload_id, TARGET.target_id)
    ran = [(item.result.latency_secs, item) for item in trials if item.result.latency_secs]
    secs, record = sorted(ran, key=lambda item: item[0])[place]
    return store.publish(
        Best(
            tier=Tier.EXACT,
            workload_id=workload.workload_id,
            target_id=TARGET.target_id,
            latency_secs=secs,
            latency_interval_secs=(secs, secs),
            default_latency_secs=None,
            trace=record.candidate.trace,
            trace_id=record.candidate.trace_id,
            verified=True,
            record_id=record.record_id,
            environment=Environment(),
            model_version=None,
            created_at=datetime.now(UTC),
        ),
        owner=None,
        job_id=None,
    )


def look_up(server: Server, workload: Workload) -> Any:
    ids = {"workload_id": workload.workload_id, "target_id": TARGET.target_id}
    answer = server.http.get("/v1/best", params=ids, timeout=90)
    return answer.json() if answer.status_code == 200 else answer.status_code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("answers")
    with live_server(directory) as running:
        teach(running.store, *LEARNT)
        for workload in (NEAR, BETWEEN, FAR):
            running.store.save_workload(workload)
        yield running


def test_answers_are_graded_by_what_is_known(server: Server) -> None:
    """One story, as each grade needs what the one before it has not."""
    assert look_up(server, NEAR) == 404
    version = learn(server.store)
    # An answer holds for a second, and this took less.
    server.services.answers.forget()

    predicted = look_up(server, NEAR)

    assert predicted["tier"] == "predicted"
    low, high = predicted["latency_interval_secs"]
    assert low <= predicted["latency_secs"] <= high
    assert (predicted["verified"], predicted["record_id"]) == (False, None)
    assert predicted["model_version"] == version
    recall = server.store.model_version(version).metrics["shape.top_1_recall"]
    assert predicted["expected_gain"] == pytest.approx(1 - recall)
    replay(canonical_json(predicted["trace"]), module_of(NEAR))
    assert look_up(server, NEAR) == predicted
    assert look_up(server, FAR) == 404
    assert NEAR.call is not None
    body = {
        "workload": {"op": "matmul", "args": dict(NEAR.call.args)},
        "target": TARGET.as_dict(),
    }
    assert server.http.post("/v1/best", json=body).json() == predicted

    slow = publish_best(server.store, LEARNT[0], place=-1)
    server.services.answers.forget()
    assert look_up(server, NEAR)["tier"] == "predicted"
    between = look_up(server, BETWEEN)
    assert (between["tier"], between["record_id"]) == ("neighbour", slow.record_id)
    assert between["model_version"] == version

    best = publish_best(server.store, LEARNT[0])
    server.services.answers.forget()
    neighbour = look_up(server, NEAR)

    assert (neighbour["tier"], neighbour["record_id"]) == ("neighbour", best.record_id)
    replay(canonical_json(neighbour["trace"]), module_of(NEAR))

    server.store.add_records(records_of(NEAR, 8))
    exact = publish_best(server.store, NEAR)
    server.services.events.best_changed(NEAR.workload_id, TARGET.target_id)
    found = look_up(server, NEAR)
    assert (found["tier"], found["record_id"]) == ("exact", exact.record_id)


def test_a_neighbour_answers_without_a_model(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        teach(server.store, LEARNT[0], count=8)
        server.store.save_workload(NEAR)
        best = publish_best(server.store, LEARNT[0])

        found = look_up(server, NEAR)

        assert (found["tier"], found["record_id"]) == ("neighbour", best.record_id)
        assert (found["model_version"], found["expected_gain"]) == (None, None)
        low, high = found["latency_interval_secs"]
        assert low < best.latency_secs * 1.5 < high * 1.5
        replay(canonical_json(found["trace"]), module_of(NEAR))


def test_shapes_of_one_program_are_neighbours(tmp_path: Path) -> None:
    """Nobody has named the operator; blocks and buffers have names that the catalogue has not."""

    def program(n: int, m: int, k: int) -> Workload:
        return workload_from_ir(programs.ir_json(programs.matmul(n, m, k)))

    small, large = program(64, 64, 64), program(96, 128, 64)
    with live_server(tmp_path) as server:
        teach(server.store, small, count=8)
        server.store.save_workload(large)
        best = publish_best(server.store, small)

        found = look_up(server, large)

        assert (found["tier"], found["record_id"]) == ("neighbour", best.record_id)
        replay(canonical_json(found["trace"]), module_of(large))
