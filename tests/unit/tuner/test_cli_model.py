"""``tunesmith model`` on paper; ``tests/integration/test_model_commands.py`` has a real server."""

import json

import httpx
import pytest

from schedules.operators import CATALOGUE
from tests.unit.tuner.test_cli import FakeServer, run
from tests.unit.tuner.test_client_sdk import NOW, job_body
from tuner.cli import model
from tuner.client import models as client_models
from tuner.client import wire
from tuner.client.sdk import Client
from tuner.corpus import corpus


def order(state, **fields):
    return wire.OrderView(
        id="o1",
        kind="train",
        state=state,
        result=fields.pop("result", None),
        error=fields.pop("error", None),
        created_at=NOW,
        finished_at=None,
        **fields,
    ).model_dump(mode="json")


@pytest.fixture
def server(monkeypatch):
    server = FakeServer()

    def open_client(url, token_file):
        return Client(url, http=httpx.Client(transport=httpx.MockTransport(server)))

    monkeypatch.setattr(model, "open_client", open_client)
    monkeypatch.setattr(client_models, "_POLL_SECS", 0.001)
    return server


def test_training_waits_for_what_comes_of_it(server):
    server.plan("POST", "/v1/models/train", order("open"), status=202)
    done = {"version": "abc", "promoted": False, "failed_gates": ["it is worse"], "metrics": {}}
    server.plan("GET", "/v1/models/orders/o1", order("open"), order("done", result=done))

    result = run("model", "train", "--operator", "softmax", "--since", "2025-06-01", "--promote")

    assert result.exit_code == 0, result.output
    assert "version abc: not in use" in result.stdout
    assert "it is worse" in result.stdout
    assert server.body(0) == {
        "target_id": None,
        "operator": "softmax",
        "since": "2025-06-01T00:00:00Z",
        "until": None,
        "seed": 0,
        "promote": True,
    }


def test_an_order_that_fails_is_a_failure(server):
    server.plan("POST", "/v1/models/promote", order("failed", error="it is worse"), status=202)

    result = run("model", "promote", "abc")

    assert result.exit_code == 1
    assert "it is worse" in result.stderr


def test_waiting_has_an_end_and_the_order_has_not(server):
    waiting = order("open", waiting_for="the learner")
    server.plan("POST", "/v1/models/evaluate", waiting, status=202)
    server.plan("GET", "/v1/models/orders/o1", waiting)

    result = run("model", "evaluate", "--timeout", "0.01")

    assert result.exit_code == 1
    assert "still waits for the learner" in result.stderr


def test_a_rollback_is_sent_once(server):
    server.plan("POST", "/v1/models/rollback", {"error": "x", "detail": "busy"}, status=503)

    assert run("model", "rollback").exit_code == 1
    assert len(server.requests) == 1


def test_the_corpus_is_tuned_before_the_training(server):
    server.plan("POST", "/v1/jobs", job_body("done"), status=201)
    server.plan("GET", "/v1/jobs/j1", job_body("done"))
    server.plan("POST", "/v1/models/train", order("done", result={"version": "abc"}), status=202)

    result = run("model", "train", "--corpus", "--corpus-trials", "3", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"version": "abc"}
    jobs = [
        json.loads(request.content)
        for request in server.requests
        if request.method == "POST" and request.url.path == "/v1/jobs"
    ]
    assert [job["workload"]["op"] for job in jobs] == [call.op for call in corpus()]
    assert {job["budget"]["trials"] for job in jobs} == {3}


def test_a_corpus_of_which_nothing_can_be_tuned_is_a_failure(server):
    server.plan("POST", "/v1/jobs", job_body("failed", error="no workers"), status=201)
    server.plan("GET", "/v1/jobs/j1", job_body("failed", error="no workers"))

    result = run("model", "train", "--corpus")

    assert result.exit_code == 1
    assert "no workers" in result.stderr


def test_the_corpus_has_several_shapes_of_each_operator():
    by_operator: dict[str, set[str]] = {}
    for call in corpus():
        by_operator.setdefault(call.op, set()).add(call.key)

    assert all(len(keys) >= 3 for keys in by_operator.values())


def test_the_corpus_has_every_operator_and_what_low_precision_does_to_some():
    assert {call.op for call in corpus()} == set(CATALOGUE)
    assert {call.dtype for call in corpus()} == {"float32", "bfloat16", "int8"}
