"""A connection to a measuring host process; this side never imports TVM."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from schedules.errors import UnavailableError
from tuner.measure.cores import format_cores

LOG_LINES = 20
STOP_SECS = 5.0


class HostConnection:
    """Owns one ``python -m tuner.measure`` process.

    Parameters
    ----------
    builders : int or None
        How many candidates it builds at once; all usable cores by default.
    device : str
        What it measures on: ``cpu``, or a GPU as in ``cuda:0``.
    build_cores : frozenset of int or None
        Cores to build trials on while others are timed.

    Notes
    -----
    Not thread-safe. After `UnavailableError` the connection is closed; make a new one.
    """

    def __init__(
        self,
        *,
        builders: int | None = None,
        device: str = "cpu",
        build_cores: frozenset[int] | None = None,
    ) -> None:
        arguments = [sys.executable, "-m", "tuner.measure", device]
        if builders is not None:
            arguments += ["--builders", str(builders)]
        if build_cores is not None:
            arguments += ["--build-cores", format_cores(build_cores)]
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            process_group=0,
        )
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._logger = threading.Thread(target=self._collect_log, daemon=True)
        self._logger.start()

    @property
    def alive(self) -> bool:
        """Whether the process runs and was not closed."""
        return self._process.poll() is None

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Send a command and wait for its one answer.

        Raises
        ------
        UnavailableError
            The host died; the message holds the end of its log.
        """
        self.send(command)
        return next(self.answers())

    def send(self, command: Mapping[str, Any]) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._gone() from None

    def interrupt(self) -> None:
        """Stop a measurement early; may be called from another thread than all else."""
        assert self._process.stdin is not None
        # Whoever waits for answers notices that the host is gone.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(b'{"command": "stop"}\n')
            self._process.stdin.flush()

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yield answers as they come; never ends by itself."""
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise self._gone()
            yield json.loads(line)

    def close(self) -> None:
        """End the process and all its children. Idempotent."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                # A dead host leaves unflushed bytes behind.
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        try:
            self._process.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._logger.join(STOP_SECS)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _gone(self) -> UnavailableError:
        self.close()
        tail = " | ".join(self._log) or "it printed nothing"
        return UnavailableError(
            f"the measuring host ended with status {self._process.returncode}; its log: {tail}"
        )

    def _collect_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._log.append(line.decode(errors="replace").rstrip())


def _environment() -> dict[str, str]:
    """Keep the host single-threaded: NumPy's own pool would not survive a fork."""
    return {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }
