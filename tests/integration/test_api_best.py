"""Looking up bests: the call that build pipelines make most."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.auth import Auth, read_tokens
from tests.integration.api_server import CPU, MATMUL, Server, live_server
from tuner.client import wire

SECRET = "a-secret-of-enough-characters"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with live_server(tmp_path) as running:
        yield running


def publish(server: Server, run_secs: float) -> dict[str, str]:
    """Import a record that becomes the best, and return the look-up of it."""
    record = {"workload": MATMUL, "target": CPU, "trace": [[], []], "run_secs": [run_secs]}
    answer = server.http.post("/v1/records/import", json={"records": [record]})
    assert answer.json()["published"] == 1, answer.text
    (best,) = server.http.get("/v1/bests").json()["items"]
    return {"workload_id": best["workload_id"], "target_id": best["target_id"]}


def look_up(server: Server, ids: dict[str, str], **headers: str) -> httpx.Response:
    return server.http.get("/v1/best", params=ids, headers=headers)


def test_a_look_up_is_right_from_the_moment_at_which_a_best_is_published(server: Server) -> None:
    ids = publish(server, 1.0)
    for run_secs in (0.5, 0.25, 0.125):
        for _ in range(2):
            found = look_up(server, ids)
            assert found.headers["content-type"] == "application/json"
            view = wire.BestView.model_validate(found.json())
        publish(server, run_secs)
        assert view.latency_secs == 2 * run_secs
        assert look_up(server, ids).json()["latency_secs"] == run_secs


def test_what_is_known_already_is_not_sent_again(server: Server) -> None:
    ids = publish(server, 1.0)
    first = look_up(server, ids)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = look_up(server, ids, **{"If-None-Match": header})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    assert look_up(server, ids, **{"If-None-Match": '"other"'}).content == first.content
    publish(server, 0.5)
    changed = look_up(server, ids, **{"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


def test_nothing_known_is_not_found_and_not_kept(server: Server) -> None:
    answer = look_up(server, {"workload_id": "a", "target_id": "b"})
    assert answer.status_code == 404
    assert answer.json()["error"] == "not_found"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("workload_id=a", 422),
        ("workload_id=&target_id=b", 422),
        (f"workload_id={'a' * 201}&target_id=b", 422),
        ("target_id=b&workload_id=a", 404),
        ("workload_id=a&target_id=b&more=c", 404),
        ("workload_id=%61&target_id=b", 404),
        ("workload_id=a&workload_id=a&target_id=b", 404),
        ("workload_id=%C3%A4&target_id=b", 404),
    ],
)
def test_queries_of_every_form_are_understood_or_refused(
    server: Server, query: str, status: int
) -> None:
    answer = server.http.get(f"/v1/best?{query}")
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "detail"}


def test_every_form_finds_the_same_best(server: Server) -> None:
    ids = publish(server, 1.0)
    workload_id, target_id = ids["workload_id"], ids["target_id"]
    plain = look_up(server, ids)
    for query in (
        f"target_id={target_id}&workload_id={workload_id}",
        f"workload_id={workload_id}&target_id={target_id}&more=c",
        f"workload_id=%{ord(workload_id[0]):x}{workload_id[1:]}&target_id={target_id}",
    ):
        answer = server.http.get(f"/v1/best?{query}")
        assert (answer.content, answer.headers["etag"]) == (plain.content, plain.headers["etag"])


def test_an_answer_in_memory_is_for_those_who_may_read(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{SECRET}\n{SECRET}-2 measure\n")
    with live_server(tmp_path, auth=Auth(read_tokens(tokens))) as server:
        server.http.headers["Authorization"] = f"Bearer {SECRET}"
        ids = publish(server, 1.0)
        assert look_up(server, ids).status_code == 200
        etag = look_up(server, ids).headers["etag"]
        for authorization, status in (("", 401), ("Bearer x", 401), (f"Bearer {SECRET}-2", 403)):
            headers = {"Authorization": authorization, "If-None-Match": etag}
            assert look_up(server, ids, **headers).status_code == status


def test_look_ups_are_counted_and_documented(server: Server) -> None:
    look_up(server, publish(server, 1.0))
    assert (
        'tunesmith_http_requests_total{method="GET",route="/v1/best",status="200"} 1.0'
        in server.http.get("/metrics").text
    )
    described: dict[str, Any] = server.http.get("/openapi.json").json()["paths"]["/v1/best"]["get"]
    assert {item["name"] for item in described["parameters"]} == {
        "workload_id",
        "target_id",
        "if-none-match",
    }
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/BestView"}
    assert "304" in described["responses"]
