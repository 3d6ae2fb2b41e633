"""The main job on PostgreSQL: the same code, the same commands."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

import tuner
from tests.acceptance.conftest import ServerProcess


@pytest.mark.slow
def test_a_job_on_postgresql_is_tuned_and_its_best_served(postgres_server, tmp_path):
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE acceptance")
    url = postgres_server.replace("/postgres?", "/acceptance?")
    command = [str(Path(sys.executable).with_name("tunesmith")), "db", "upgrade"]
    subprocess.run([*command, "--database-url", url], check=True)
    workload = {"op": "dense", "args": {"n": 32, "m": 32, "k": 32}}
    with (
        ServerProcess(tmp_path, "--database-url", url) as server,
        tuner.Client(server.url) as client,
    ):
        best = client.submit(workload, trials=8).wait(timeout_secs=100)
        assert best.verified
        assert client.best(workload) == best
