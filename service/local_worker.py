"""A worker on the server's own machine, as a child process that ends with the server.

As a script, it is that child: ``python -m service.local_worker PARENT_ID ARGUMENT...`` runs
``tunesmith ARGUMENT...`` and is ended by the kernel when the parent is gone, however it went.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

STOP_SECS = 3.0
"""How long the worker may finish its batch; then it is asked to give the batch back."""
LEAVE_SECS = 12.0
"""How long that may take; then it is killed."""

_FIRST_PAUSE_SECS = 1.0
_LONGEST_PAUSE_SECS = 60.0
_PR_SET_PDEATHSIG = 1


class LocalWorker:
    """Keeps one worker process running.

    Parameters
    ----------
    server : str
        URL of the server.
    token_file : Path or None
        Holds the worker's token, where the server wants one.
    """

    def __init__(self, server: str, token_file: Path | None) -> None:
        self._arguments = ["worker", "--server", server]
        if token_file is not None:
            self._arguments += ["--token-file", str(token_file)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name="local-worker")

    def start(self) -> None:
        """Start the process, and again whenever it ends by itself; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the process to end, and return when it has."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep_running(self) -> None:
        pause_secs = _FIRST_PAUSE_SECS
        while not self._stopping.is_set():
            started = time.monotonic()
            status = self._run()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _LONGEST_PAUSE_SECS:
                pause_secs = _FIRST_PAUSE_SECS
            logger.warning(
                "The local worker ended with status %d and is started again in %.0f s",
                status,
                pause_secs,
                extra={"action": "restart_local_worker"},
            )
            self._stopping.wait(pause_secs)
            pause_secs = min(2 * pause_secs, _LONGEST_PAUSE_SECS)

    def _run(self) -> int:
        command = [sys.executable, "-m", __name__, str(os.getpid()), *self._arguments]
        # Ctrl-C is for the server alone, which then ends the worker in order.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None:
            if self._stopping.wait(0.2):
                return _end(process)
        return process.returncode


def _end(process: subprocess.Popen[bytes]) -> int:
    for patience_secs in (STOP_SECS, LEAVE_SECS):
        process.terminate()
        try:
            process.wait(patience_secs)
            break
        except subprocess.TimeoutExpired:
            logger.info("The local worker is still busy")
    try:
        # Its own children too, whether or not it could see to them.
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("The local worker left no processes behind")
    return process.wait()


def main(arguments: Sequence[str]) -> None:
    """Run as the child; see the module."""
    parent_id, *rest = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent_id):
        sys.exit("the server ended before its worker began")

    from tuner.cli import main as tunesmith

    sys.argv = ["tunesmith", *rest]
    tunesmith()


if __name__ == "__main__":
    main(sys.argv[1:])
