from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.auth import Auth, read_tokens
from tests.integration.api_server import CPU, MATMUL, Server, live_server

ADMIN = "an-admin-token-of-some-length"
READER = "a-reader-token-of-some-length"
SUBMITTER = "a-submit-token-of-some-length"
WORKER = "a-worker-token-of-some-length"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("auth")
    tokens = directory / "tokens"
    tokens.write_text(
        f"# people\n{ADMIN}\n\n{READER} read\n{SUBMITTER} submit, read, name=ci\n{WORKER} measure\n"
    )
    with live_server(directory, auth=Auth(read_tokens(tokens))) as running:
        yield running


def get(server: Server, path: str, token: str | None = None, **headers: str) -> httpx.Response:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return server.http.get(path, headers=headers)


def test_without_a_known_token_nothing_but_health_is_told(server: Server) -> None:
    assert get(server, "/healthz").status_code == 200
    assert get(server, "/readyz").status_code == 200
    paths = server.http.get("/openapi.json").json()["paths"]
    checked = 0
    for path, operations in paths.items():
        for method in operations:
            if path in ("/healthz", "/readyz"):
                continue
            answer = server.http.request(method, path.replace("{", "").replace("}", ""), json={})
            assert answer.status_code == 401, (method, path)
            assert answer.json()["error"] == "unauthorized"
            assert answer.headers["www-authenticate"] == "Bearer"
            checked += 1
    assert checked >= 20


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer wrong",
        f"Bearer {ADMIN[:-1]}",
        f"Basic {ADMIN}",
        ADMIN,
        "Bearer \u00e9\u00e9",
    ],
)
def test_a_wrong_header_is_no_token(server: Server, header: str) -> None:
    headers = [(b"Authorization", header.encode("latin-1"))]
    answer = server.http.get("/v1/jobs", headers=headers)
    assert answer.status_code == 401


def test_scopes_allow_what_they_name_and_admin_allows_all(server: Server) -> None:
    body = {"name": "w", "target": CPU, "environment": {}}
    job = {"workload": MATMUL, "target": CPU}

    def post(path: str, token: str, json: object) -> int:
        headers = {"Authorization": f"bearer {token}"}
        return server.http.post(path, json=json, headers=headers).status_code

    assert get(server, "/v1/jobs", READER).status_code == 200
    assert get(server, "/metrics", READER).status_code == 200
    assert post("/v1/jobs", READER, job) == 403
    assert post("/v1/workers", READER, body) == 403
    assert post("/v1/jobs", SUBMITTER, job) == 201
    assert {job.spec.submitter for job in server.store.active_jobs()} == {"ci"}
    assert get(server, "/v1/jobs", SUBMITTER).status_code == 200
    assert post("/v1/records/import", WORKER, {"records": []}) == 403
    assert post("/v1/workers", WORKER, body) == 201
    assert post("/v1/leases/x/heartbeat", WORKER, {"epoch": 1}) == 404
    assert get(server, "/v1/jobs", WORKER).status_code == 403
    assert get(server, "/v1/jobs", ADMIN).status_code == 200
    assert post("/v1/workers", ADMIN, body) == 201
    assert post("/v1/workers/x/clear", WORKER, None) == 403
    assert post("/v1/workers/x/clear", ADMIN, None) == 404
    refused = get(server, "/v1/jobs", WORKER).json()
    assert refused["error"] == "forbidden"
    assert "'read'" in refused["detail"]


def test_an_open_server_answers_to_this_machines_names_only(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        for host in ("127.0.0.1:1", "localhost", "LOCALHOST:8700", "[::1]:8700", "127.1.2.3"):
            assert get(server, "/v1/jobs", Host=host).status_code == 200, host
        for host in ("evil.example", "evil.example:8700", "localhost.evil.example", "10.0.0.1", ""):
            answer = get(server, "/v1/jobs", Host=host)
            assert answer.status_code == 403, host
            assert answer.json()["error"] == "forbidden_host"
        assert get(server, "/healthz", Host="evil.example").status_code == 200
