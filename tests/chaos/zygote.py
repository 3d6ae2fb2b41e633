"""Starts Python processes by forking one that has the product imported: in a moment, not seconds.

A process that is started so has run nothing before. Run as ``python -m tests.chaos.zygote``, it
reads one JSON request a line and answers each with one line. At the end of its input, which also
comes when its parent was killed, it kills what it has started.
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_PRELOADED = (
    "migrations",
    "psycopg",
    "service.db.migrate",
    "service.orchestrator",
    "service.server",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "tests.chaos.candidates",
    "tests.chaos.ledger",
    "tuner.cli",
    "tuner.worker.daemon",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)


class Process:
    """A forked process; has what is needed of `subprocess.Popen`."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self.pid = pid
        self._zygote = zygote
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        if self._status is None:
            self._status = self._zygote.ask({"poll": self.pid})
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; see `subprocess.Popen.wait`."""
        began = time.monotonic()
        while (status := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The process that forks. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> Process:
        """Run a module as ``python -m`` would."""
        pid = self.ask(
            {"start": [module, *arguments], "environment": dict(environment), "log": str(log)}
        )
        return Process(self, pid)

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Send a request and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it and what it has started."""
        self._process.communicate()


@cache
def zygote() -> Zygote:
    """Return this process's zygote, starting it when it is first needed."""
    made = Zygote()
    atexit.register(made.close)
    return made


def main() -> None:
    """Answer requests until the input ends."""
    for name in _PRELOADED:
        import_module(name)
    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            answer = _poll(request["poll"])
            if answer is not None:
                running.discard(request["poll"])
        else:
            answer = os.fork()
            if answer == 0:
                _become(request["start"], request["environment"], request["log"])
            running.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _poll(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _become(command: list[str], environment: dict[str, str], log: str) -> None:
    """Be a new process from here on; never returns."""
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = command
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
