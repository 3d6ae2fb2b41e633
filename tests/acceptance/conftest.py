"""A real server with a real worker, as processes, for the acceptance tests.

One at a time: a machine's workers exclude each other, so each module ends its server.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest

import tuner
from tests.processes import free_port

START_SECS = 60.0


class ServerProcess:
    """`tunesmith serve --with-worker` on a free port, with a data directory of its own.

    Parameters
    ----------
    directory : Path
        For its data and its log.
    options : str
        More of the command's options.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self._options = options
        self._log = directory / "server.log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [Path(sys.executable).with_name("tunesmith"), "serve", "--with-worker"]
        command += ["--port", str(self._port), "--data-dir", self._directory, *self._options]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command], stderr=log, stdout=log, env=environment
            )
        deadline = time.monotonic() + START_SECS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"the server did not start: {self.log()}")

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """End it as an administrator would; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        status = self.stop()
        assert error is not None or status == 0, self.log()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator["tuner.Client"]:
    with tuner.Client(server.url) as client:
        yield client
