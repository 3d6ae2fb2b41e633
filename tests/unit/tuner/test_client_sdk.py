import json
from datetime import UTC, datetime

import httpx
import pytest

from schedules.errors import (
    ConflictError,
    ContractError,
    InputError,
    NotFoundError,
    TunesmithError,
    UnavailableError,
)
from schedules.records import FailureKind
from schedules.target import Target
from tuner.client import http as client_http
from tuner.client import job as client_job
from tuner.client import wire
from tuner.client.errors import (
    JobFailedError,
    JobTimeoutError,
    ServerAccessError,
    ServerError,
    UnreachableError,
)
from tuner.client.requests import target_request, workload_request
from tuner.client.sdk import Client

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def best_body():
    return wire.BestView(
        tier="exact",
        workload_id="w",
        target_id="t",
        latency_secs=1e-3,
        latency_interval_secs=(0.9e-3, 1.1e-3),
        default_latency_secs=2e-3,
        speedup=2.0,
        trace=[[], []],
        verified=True,
        record_id="r",
        environment={"cpu": "x"},
        model_version=None,
        created_at=NOW,
    ).model_dump(mode="json")


def job_body(state="running", **fields):
    best = best_body() if state == "done" else None
    return wire.JobView(
        id="j1",
        state=state,
        workload_id="w",
        target_id="t",
        trials_done=fields.pop("trials_done", 3),
        trials_budget=64,
        failures={FailureKind.BUILD_ERROR: 1},
        best=fields.pop("best", best),
        error=fields.pop("error", None),
        created_at=NOW,
        **fields,
    ).model_dump(mode="json")


def client_of(handler, **options):
    transport = httpx.MockTransport(handler)
    return Client("http://tuner.test", http=httpx.Client(transport=transport), **options)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(client_http, "_FIRST_DELAY_SECS", 0.001)
    monkeypatch.setattr(client_job, "_POLL_SECS", 0.001)


def test_submit_sends_the_contract_and_a_key():
    seen = []

    def handler(request):
        seen.append(request)
        return httpx.Response(201, json=job_body())

    with client_of(handler, token="secret") as client:
        job = client.submit(("batch_matmul", {"b": 1, "n": 8, "m": 8, "k": 8}), trials=5, seed=3)
    assert (job.id, job.state) == ("j1", "running")
    [request] = seen
    body = json.loads(request.content)
    assert body == {
        "workload": {
            "op": "batch_matmul",
            "args": {"b": 1, "n": 8, "m": 8, "k": 8},
            "dtype": "float32",
        },
        "target": "native",
        "budget": {"trials": 5, "seconds": None, "least_gain": None},
        "priority": 0,
        "space": "default",
        "seed": 3,
    }
    assert request.headers["Authorization"] == "Bearer secret"
    assert len(request.headers["Idempotency-Key"]) >= 16


def test_retries_of_submit_keep_their_key():
    keys = []

    def handler(request):
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadTimeout("slow")
        if len(keys) == 2:
            return httpx.Response(503, json={"error": "busy", "detail": "later"})
        return httpx.Response(201, json=job_body())

    client_of(handler).submit(("softmax", {"m": 1, "n": 1}))
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_two_submits_have_two_keys():
    keys = []

    def handler(request):
        keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(201, json=job_body())

    client = client_of(handler)
    client.submit(("softmax", {"m": 1, "n": 1}))
    client.submit(("softmax", {"m": 1, "n": 1}))
    client.submit(("softmax", {"m": 1, "n": 1}), idempotency_key="mine")
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (409, ConflictError),
        (422, InputError),
        (413, InputError),
        (401, ServerAccessError),
        (403, ServerAccessError),
        (429, UnavailableError),
        (503, UnavailableError),
        (500, UnavailableError),
        (418, ServerError),
    ],
)
def test_refusals_carry_what_the_server_said(status, kind):
    client = client_of(
        lambda request: httpx.Response(status, json={"error": "name", "detail": "do this"})
    )
    with pytest.raises(kind) as caught:
        client.job("x")
    assert isinstance(caught.value, ServerError)
    assert (caught.value.status, caught.value.error, caught.value.detail) == (
        status,
        "name",
        "do this",
    )


def test_a_refusal_that_is_not_ours_says_where_it_came_from():
    client = client_of(lambda request: httpx.Response(404, text="<html>nginx</html>"))
    with pytest.raises(NotFoundError, match=r"http://tuner.test/v1/jobs/x answered 404"):
        client.job("x")


def test_no_server_names_the_url_and_what_to_do():
    with (
        Client("http://127.0.0.1:9", timeout_secs=1) as client,
        pytest.raises(UnreachableError, match=r"http://127.0.0.1:9 .*tunesmith serve.*--server"),
    ):
        client.job("x")


def test_nothing_but_the_projects_errors_escapes():
    def handler(request):
        raise httpx.RemoteProtocolError("torn")

    with pytest.raises(TunesmithError):
        client_of(handler).best_by_id("w", "t")
    with pytest.raises(ContractError, match="JobView"):
        client_of(lambda request: httpx.Response(200, json={"id": 3})).job("x")
    with pytest.raises(ContractError):
        client_of(lambda request: httpx.Response(200, text="hello")).job("x")
    with pytest.raises(ContractError):
        list(client_of(lambda request: httpx.Response(200, json={"rows": []})).jobs())


@pytest.mark.parametrize("server", ["", "127.0.0.1:8700", "ftp://host", "http://", "http://a:b:c"])
def test_bad_urls_are_refused_at_once(server):
    with pytest.raises(InputError):
        Client(server)


def test_a_newer_servers_fields_are_left_out():
    client = client_of(
        lambda request: httpx.Response(200, json={**job_body(), "invented_later": 1})
    )
    assert client.job("j1").id == "j1"


def test_waiting_tells_of_every_look_and_returns_the_best():
    states = [
        job_body("queued", trials_done=0),
        job_body("running", trials_done=1),
        job_body("running", trials_done=1),
        job_body("done", trials_done=2),
    ]
    client = client_of(lambda request: httpx.Response(200, json=states.pop(0)))
    seen = []
    best = client.job("j1").wait(on_progress=lambda view: seen.append(view.trials_done))
    assert best.latency_secs == 1e-3
    assert seen == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (job_body("failed", error="no candidate ran"), "no candidate ran"),
        (job_body("cancelled"), "was cancelled"),
        (job_body("done", best=None), "without a best"),
    ],
)
def test_waiting_for_a_job_that_fails_raises(body, message):
    client = client_of(lambda request: httpx.Response(200, json=body))
    with pytest.raises(JobFailedError, match=message) as caught:
        client.job("j1").wait()
    assert caught.value.job.id == "j1"


def test_waiting_ends_at_its_timeout():
    client = client_of(lambda request: httpx.Response(200, json=job_body()))
    with pytest.raises(JobTimeoutError, match="goes on"):
        client.job("j1").wait(timeout_secs=0.01)


def test_waiting_survives_a_restart_of_the_server(monkeypatch):
    monkeypatch.setattr(client_http, "_ATTEMPTS", 1)
    answers = [job_body("running"), None, None, job_body("done")]

    def handler(request):
        body = answers.pop(0)
        if body is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=body)

    assert client_of(handler).job("j1").wait().verified


def test_records_are_paged_to_the_end():
    pages = {None: (["a", "b"], "c1"), "c1": (["c"], None)}
    asked = []

    def handler(request):
        asked.append(dict(request.url.params))
        names, cursor = pages[request.url.params.get("cursor")]
        items = [record_body(name) for name in names]
        return httpx.Response(200, json={"items": items, "next_cursor": cursor})

    client = client_of(handler)
    found = client.records(workload_id="w", failure=FailureKind.RUN_ERROR, since=NOW)
    assert [record.record_id for record in found] == ["a", "b", "c"]
    assert asked[0]["failure"] == "run_error"
    assert asked[0]["since"] == "2025-01-01T00:00:00+00:00"
    assert "target_id" not in asked[0]


def test_a_limit_ends_paging_early():
    def handler(request):
        count = int(request.url.params["limit"])
        items = [record_body(str(place)) for place in range(count)]
        return httpx.Response(200, json={"items": items, "next_cursor": "more"})

    assert len(list(client_of(handler).records(limit=3))) == 3


def record_body(record_id):
    return wire.RecordView(
        record_id=record_id,
        workload_id="w",
        target_id="t",
        job_id=None,
        worker_id=None,
        purpose="trial",
        origin="search",
        trace=[[], []],
        trace_id="x",
        run_secs=[1e-3],
        latency_secs=1e-3,
        build_secs=None,
        failure=None,
        failure_detail=None,
        verification=None,
        predicted_score=None,
        model_version=None,
        protocol_version=1,
        environment={},
        created_at=NOW,
    ).model_dump(mode="json")


def test_imports_are_sent_in_parts():
    sizes = []

    def handler(request):
        records = json.loads(request.content)["records"]
        sizes.append(len(records))
        return httpx.Response(200, json={"stored": len(records), "known": 0, "published": 1})

    record = wire.ImportedRecord(
        workload=wire.IrWorkload(ir="x" * 500_000),
        target={"kind": "llvm"},
        trace=([], []),
        run_secs=[1.0],
    )
    answer = client_of(handler).import_records([record] * 10)
    assert (answer.stored, answer.published) == (10, len(sizes))
    assert max(sizes) <= 4


def test_budgets_without_a_bound_in_range_are_refused_before_sending():
    client = client_of(lambda request: pytest.fail("sent"))
    with pytest.raises(InputError, match="trials"):
        client.submit(("softmax", {"m": 1, "n": 1}), trials=0)
    with pytest.raises(InputError, match="priority"):
        client.submit(("softmax", {"m": 1, "n": 1}), priority=1000)


@pytest.mark.parametrize("workload", ["softmax", 3, (), ("a", {}, "b", "c"), {"args": {}}, None])
def test_what_is_no_workload_is_refused(workload):
    with pytest.raises(InputError):
        workload_request(workload)


def test_workloads_of_every_form():
    by_name = wire.OperatorWorkload(op="softmax", args={"m": 1, "n": 2})
    assert workload_request(("softmax", {"m": 1, "n": 2})) == by_name
    assert workload_request({"op": "softmax", "args": {"m": 1, "n": 2}}) == by_name
    assert workload_request(by_name) is by_name
    assert workload_request({"ir": "{}"}) == wire.IrWorkload(ir="{}")


def test_targets_of_every_form():
    llvm = {"kind": "llvm", "mcpu": "znver3", "num-cores": 2}
    assert target_request("native") == "native"
    assert target_request(llvm) == llvm
    assert target_request(Target.parse(llvm)) == llvm
    with pytest.raises(InputError):
        target_request(3)
