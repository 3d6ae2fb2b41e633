"""The server as a process of its own: starting, stopping, crashing."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from tests.integration.api_server import CPU
from tuner.cli import main

TUNESMITH = "from tuner.cli import main; main(prog_name='tunesmith')"

WITHOUT_TVM = """
import sys
from pathlib import Path
from tests.integration.api_server import live_server
with live_server(Path(sys.argv[1])) as server:
    server.register()
    server.submit()
    server.enqueue()
    server.http.get("/v1/operators").raise_for_status()
import service.server
import service.orchestrator
assert not [name for name in sys.modules if name.partition(".")[0] in ("tvm", "tvm_ffi")]
"""


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", TUNESMITH, *map(str, arguments)]


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "TUNESMITH" not in name}
    return kept | variables


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        command("serve", "--role", "api", "--port", "0", "--data-dir", directory, *options),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.fullmatch(r"Tunesmith \S+ serves (http://127\.0\.0\.1:\d+)\n", line)
        assert found, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def invoke(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_api_process_never_imports_tvm(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TVM, str(tmp_path)], check=True, timeout=60, cwd=Path.cwd()
    )


def test_a_signal_ends_the_server_in_order_even_while_requests_wait(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url):
        body = {"name": "w", "target": CPU, "environment": {}}
        worker_id = httpx.post(f"{url}/v1/workers", json=body).json()["worker_id"]
        lease = f"{url}/v1/workers/{worker_id}/lease"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(httpx.post, lease, json={"wait_secs": 60}, timeout=90)
            time.sleep(1)
            assert not waiting.done()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert waiting.result().status_code == 204


def test_after_a_kill_the_server_starts_again_and_has_lost_nothing(tmp_path: Path) -> None:
    body = {"name": "w", "target": CPU, "environment": {}}
    with serving(tmp_path) as (process, url):
        worker_id = httpx.post(f"{url}/v1/workers", json=body).json()["worker_id"]
        process.kill()
        process.wait()
    with serving(tmp_path) as (process, url):
        workers = httpx.get(f"{url}/v1/workers").json()["items"]
        assert [worker["worker_id"] for worker in workers] == [worker_id]
        # One server a database.
        for arguments in (("serve", "--role", "api", "--port", "0"), ("db", "upgrade")):
            status, output = invoke(*arguments, "--data-dir", tmp_path)
            assert status == 1
            assert output.startswith("Error: another server")
            assert output.count("\n") == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_server_that_others_can_reach_needs_tokens(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    status, output = invoke("serve", "--host", "0.0.0.0", "--data-dir", directory)
    assert (status, "TUNESMITH_TOKEN_FILE" in output) == (2, True)
    assert not directory.exists()


def test_wrong_usage_is_told_apart(tmp_path: Path) -> None:
    assert invoke("serve", "--port", "many")[0] == 2
    assert invoke("serve", "--role", "boss")[0] == 2
    status, output = invoke("serve", "--role", "tuner", "--with-worker")
    assert (status, "--with-worker" in output) == (2, True)


def test_settings_of_the_environment_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_LEASE_TTL_SECS", "soon")
    status, output = invoke("db", "check", "--data-dir", tmp_path)
    assert status == 2
    assert "TUNESMITH_LEASE_TTL_SECS" in output


def test_a_database_is_made_and_checked(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    status, output = invoke("db", "check", "--data-dir", directory)
    assert status == 1
    assert "there is no database" in output
    assert not directory.exists()

    status, output = invoke("db", "upgrade", "--data-dir", directory, "--json")
    assert status == 0
    assert str(directory) in output
    assert invoke("db", "check", "--data-dir", directory)[0] == 0
    status, output = invoke("db", "check", "--data-dir", directory, "--json")
    assert (status, '"ok": true' in output) == (0, True)

    status, output = invoke("db", "check", "--database-url", "mysql://root:hunter2@h/d")
    assert status == 2
    assert "hunter2" not in output
