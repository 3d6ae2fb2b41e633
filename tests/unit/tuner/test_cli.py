import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import click
import httpx
import pytest
from click.testing import CliRunner

from tests.unit.tuner.test_client_sdk import best_body, job_body, record_body
from tuner.cli import files, fleet, main, options, remote, root, show
from tuner.client import http as client_http
from tuner.client import job as client_job
from tuner.client.sdk import Client

MATMUL = ["batch_matmul", "b=1", "n=8", "m=8", "k=8"]


class FakeServer:
    def __init__(self):
        self.answers = {}
        self.requests = []
        self.opened = []

    def __call__(self, request):
        self.requests.append(request)
        planned = self.answers.get((request.method, request.url.path))
        if planned is None:
            return httpx.Response(404, json={"error": "not_found", "detail": "no such thing"})
        return planned.pop(0) if len(planned) > 1 else planned[0]

    def plan(self, method, path, *bodies, status=200):
        self.answers[method, path] = [httpx.Response(status, json=body) for body in bodies]

    def body(self, place=-1):
        return json.loads(self.requests[place].content)


@pytest.fixture
def server(monkeypatch):
    server = FakeServer()

    def open_client(url, token_file):
        server.opened.append((url, options.read_token(token_file)))
        return Client(url, http=httpx.Client(transport=httpx.MockTransport(server)))

    for module in (remote, show, files, fleet):
        monkeypatch.setattr(module, "open_client", open_client)
    monkeypatch.setattr(client_http, "_FIRST_DELAY_SECS", 0.001)
    monkeypatch.setattr(client_job, "_POLL_SECS", 0.001)
    return server


def run(*arguments, **environment):
    return CliRunner(env=environment).invoke(main, arguments, prog_name="tunesmith")


def test_submit_sends_what_was_typed(server):
    server.plan("POST", "/v1/jobs", job_body("queued"), status=201)
    result = run(
        "submit", *MATMUL, "--trials", "5", "--dtype", "float16", "--seed", "7", "--json",
        "--target", '{"kind":"llvm","mcpu":"znver3","num-cores":2}', "--priority", "3",
        "--constant", "Y",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["id"] == "j1"
    assert server.body() == {
        "workload": {
            "op": "batch_matmul",
            "args": {"b": 1, "n": 8, "m": 8, "k": 8},
            "dtype": "float16",
            "constants": ["Y"],
        },
        "target": {"kind": "llvm", "mcpu": "znver3", "num-cores": 2},
        "budget": {"trials": 5, "seconds": None, "least_gain": None},
        "priority": 3,
        "space": "default",
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], {"trials": 64, "seconds": None, "least_gain": None}),
        (["--seconds", "9"], {"trials": None, "seconds": 9.0, "least_gain": None}),
        (
            ["--seconds", "9", "--trials", "2", "--least-gain", "0.01"],
            {"trials": 2, "seconds": 9.0, "least_gain": 0.01},
        ),
    ],
)
def test_a_time_budget_stands_alone(server, given, expected):
    server.plan("POST", "/v1/jobs", job_body("queued"))
    assert run("submit", *MATMUL, *given).exit_code == 0
    assert server.body()["budget"] == expected


def test_an_ir_file_is_sent_as_it_is(server, tmp_path):
    server.plan("POST", "/v1/jobs", job_body("queued"))
    (tmp_path / "program.json").write_text('{"root_index": 0}')
    assert run("submit", "--ir", str(tmp_path / "program.json")).exit_code == 0
    assert server.body()["workload"]["ir"] == '{"root_index": 0}'


def test_waiting_shows_progress_on_stderr_and_one_object_on_stdout(server):
    server.plan("POST", "/v1/jobs", job_body("queued", trials_done=0))
    server.plan(
        "GET", "/v1/jobs/j1", job_body("running", trials_done=9), job_body("done", trials_done=64)
    )
    result = run("submit", *MATMUL, "--wait", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["state"] == "done"
    assert "0/64 trials" in result.stderr
    assert "64/64 trials" in result.stderr


def test_a_failed_job_is_shown_and_fails(server):
    server.plan("GET", "/v1/jobs/j1", job_body("failed", error="no candidate ran"))
    for arguments in (["job", "j1"], ["job", "j1", "--wait"], ["job", "j1", "--json"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "j1" in result.stdout
        assert result.stderr.splitlines()[-1] == "Error: job j1 failed: no candidate ran"


def test_waiting_no_longer_than_wanted(server):
    server.plan("GET", "/v1/jobs/j1", job_body("running"))
    result = run("job", "j1", "--wait", "--timeout", "0.05")
    assert result.exit_code == 1
    assert "goes on" in result.stderr


def test_a_running_job_is_no_failure(server):
    server.plan("GET", "/v1/jobs/j1", job_body("running"))
    result = run("job", "j1")
    assert result.exit_code == 0
    assert "3 of 64" in result.stdout
    assert "1 build_error" in result.stdout


def test_cancel(server):
    server.plan("POST", "/v1/jobs/j1/cancel", job_body("cancelled"))
    result = run("cancel", "j1", "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (0, "cancelled")


def test_best_by_name_and_by_ids(server):
    server.plan("POST", "/v1/best", best_body())
    server.plan("GET", "/v1/best", best_body())
    result = run("best", *MATMUL)
    assert result.exit_code == 0
    assert "2.00x" in result.stdout
    result = run("best", "--workload-id", "w", "--target-id", "t", "--json")
    assert json.loads(result.stdout)["speedup"] == 2.0
    assert dict(server.requests[-1].url.params) == {"workload_id": "w", "target_id": "t"}


def test_no_best_is_a_failure_with_the_servers_reason(server):
    result = run("best", *MATMUL, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no such thing\n"


def test_lists_are_tables_or_one_object(server):
    page = {"items": [record_body("r1"), record_body("r2")], "next_cursor": None}
    server.plan("GET", "/v1/records", page)
    server.plan("GET", "/v1/jobs", {"items": [job_body("done")], "next_cursor": None})
    assert "r2" in run("records", "--job-id", "j1").stdout
    assert server.requests[-1].url.params["job_id"] == "j1"
    listed = json.loads(run("records", "--failure", "run_error", "--json").stdout)
    assert [item["record_id"] for item in listed["items"]] == ["r1", "r2"]
    run("records", "--operator", "softmax", "--latency-max-secs", "0.5", "--censored", "false")
    asked = dict(server.requests[-1].url.params)
    assert (asked["operator"], asked["latency_max_secs"]) == ("softmax", "0.5")
    assert asked["censored"] == "false"
    assert "2.00x" in run("jobs").stdout
    assert len(json.loads(run("jobs", "--json").stdout)["items"]) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["submit"], "name an operator"),
        (["submit", "batch_matmull", "b=1"], "did you mean batch_matmul"),
        (["submit", "batch_matmul", "b=1"], "needs the argument"),
        (["submit", *MATMUL, "z=1"], "no argument 'z'"),
        (["submit", *MATMUL, "n=9"], "given twice"),
        (["submit", "softmax", "m"], "not KEY=VALUE"),
        (["submit", "softmax", "m=1.5"], "must be an integer, not '1.5'"),
        (["submit", *MATMUL, "--dtype", "float3"], "no dtype 'float3'"),
        (["submit", *MATMUL, "--constant", "weight"], "its inputs are X, Y"),
        (["submit", *MATMUL, "--trials", "0"], "--trials"),
        (["submit", *MATMUL, "--seconds", "0"], "--seconds"),
        (["submit", *MATMUL, "--least-gain", "1"], "--least-gain"),
        (["submit", *MATMUL, "--target", "{"], "not JSON"),
        (["submit", *MATMUL, "--ir", "pyproject.toml"], "not both"),
        (["submit", "--ir", "/missing"], "does not exist"),
        (["submit", *MATMUL, "--server", "nonsense"], "not a URL"),
        (["best", "--workload-id", "w"], "needs --target-id"),
        (["best", "--workload-id", "w", *MATMUL], "only one of them"),
        (["tune", "nonsense"], "no operator 'nonsense'"),
        (["tune", "softmax", "m=0", "n=1"], "m must be from 1"),
        (["ops", "nonsense"], "no operator 'nonsense'"),
        (["export"], "--out"),
        (["import", "/missing"], "does not exist"),
        (["worker", "--max-batches", "0"], "--max-batches"),
        (["nonsense"], "No such command"),
    ],
)
def test_what_is_typed_wrong_is_wrong_usage_and_starts_nothing(arguments, reason):
    result = run(*arguments)
    assert result.exit_code == 2
    assert reason in result.stderr.replace("\n", " ")
    assert result.stdout == ""


def test_what_the_server_cannot_use_is_wrong_usage_too(server):
    server.plan("POST", "/v1/jobs", {"error": "bad", "detail": "no such space"}, status=422)
    result = run("submit", *MATMUL, "--space", "odd")
    assert (result.exit_code, result.stderr) == (2, "Error: no such space\n")


def test_the_environment_names_server_and_token(server, tmp_path):
    (tmp_path / "token").write_text("secret submit read\n")
    server.plan("GET", "/v1/jobs", {"items": [], "next_cursor": None})
    variables = {
        "TUNESMITH_SERVER": "http://there:1",
        "TUNESMITH_TOKEN_FILE": str(tmp_path / "token"),
    }
    assert run("jobs", **variables).exit_code == 0
    assert run("jobs", "--server", "http://here:2", **variables).exit_code == 0
    assert server.opened == [("http://there:1", "secret"), ("http://here:2", "secret")]


def test_an_empty_token_file_is_told_of(tmp_path):
    (tmp_path / "token").touch()
    result = run("jobs", "--token-file", str(tmp_path / "token"))
    assert result.exit_code == 2
    assert "must hold the token" in result.stderr


def test_ops_lists_every_operator_with_its_arguments():
    listed = json.loads(run("ops", "--json").stdout)["operators"]
    names = {operator["name"] for operator in listed}
    assert {"batch_matmul", "conv2d_nhwc", "softmax"} <= names
    text = run("ops").stdout
    assert all(name in text for name in names)
    assert "batch size" in run("ops", "conv2d_nhwc").stdout


def test_help_everywhere():
    assert run("--version").stdout.startswith("tunesmith, version ")
    for name in main.list_commands(click.Context(main)):
        result = run(name, "--help")
        assert result.exit_code == 0, name
        assert "Usage" in result.stdout


class BrokenEntry:
    name = "service"

    def load(self):
        raise ModuleNotFoundError("No module named 'fastapi'")


@pytest.mark.parametrize("name", ["serve", "db"])
def test_server_commands_say_what_to_install_where_it_is_missing(monkeypatch, name):
    monkeypatch.setattr(root, "entry_points", lambda group: [BrokenEntry()])
    monkeypatch.setattr(main, "commands", dict(main.commands))
    main.commands.pop(name, None)
    result = run(name, "anything", "--port", "1")
    assert result.exit_code == 1
    assert "pip install 'tunesmith[server]'" in result.stderr


def test_other_packages_can_add_commands(monkeypatch):
    monkeypatch.setattr(main, "commands", dict(main.commands))
    entry = EntryPoint("x", "tests.unit.tuner.test_cli:add_hello", root.COMMANDS_GROUP)
    monkeypatch.setattr(root, "entry_points", lambda group: [entry])
    assert run("hello").stdout == "hello\n"


def add_hello(group):
    group.add_command(click.Command("hello", callback=lambda: click.echo("hello")))


def test_no_server_is_one_line_and_no_traceback():
    command = [sys.executable, "-c", "from tuner.cli import main; main()"]
    done = subprocess.run(
        [*command, "jobs", "--server", "http://127.0.0.1:9", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "http://127.0.0.1:9" in line


def test_workers_are_listed_drained_and_cleared_by_name(server):
    worker = {
        "worker_id": "w1",
        "name": "lab-7",
        "target_id": "t" * 64,
        "target": {"kind": "llvm"},
        "environment": {},
        "state": "quarantined",
        "quarantined": "it drifts",
        "last_seen_at": "2026-01-02T03:04:05Z",
        "registered_at": "2026-01-02T03:04:05Z",
    }
    server.plan("GET", "/v1/workers", {"items": [worker], "next_cursor": None})
    server.plan("POST", "/v1/workers/w1/clear", worker | {"quarantined": None, "state": "idle"})
    server.plan("POST", "/v1/workers/w1/drain", worker | {"state": "draining"})
    assert "it drifts" in run("workers").stdout
    assert json.loads(run("workers", "--json").stdout)["items"][0]["name"] == "lab-7"
    assert "lab-7 measures again" in run("clear", "lab-7").stdout
    assert json.loads(run("drain", "w1", "--json").stdout)["state"] == "draining"
    unknown = run("clear", "nobody")
    assert unknown.exit_code == 1
    assert "tunesmith workers" in unknown.stderr
