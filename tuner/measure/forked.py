"""A forked child as its host sees it: commands, deadlines, and what is left of it after a crash."""

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from schedules.records import Failure, FailureKind

OUTPUT_TAIL_BYTES = 2000
STOP_SECS = 1.0
STOP_STEP_SECS = 0.0005


class ForkedChild:
    """One forked process that answers JSON lines.

    Parameters
    ----------
    body : callable (commands, answers)
        Runs in the child; the child exits when it returns.
    interrupt : int or None
        A descriptor of the host; when it becomes readable while an answer is awaited, waiting ends
        with `InterruptedWaitError`.

    Notes
    -----
    Not thread-safe: the host that forked it owns it. The caller's process must have one thread.
    """

    def __init__(
        self, body: Callable[[BinaryIO, BinaryIO], None], *, interrupt: int | None = None
    ) -> None:
        self._interrupt = [] if interrupt is None else [interrupt]
        self._output = os.memfd_create("output")
        command_reader, self._command_writer = os.pipe()
        self._answer_reader, answer_writer = os.pipe()
        self._buffer = b""
        self._ended = False
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._command_writer)
            os.close(self._answer_reader)
            self._run(body, command_reader, answer_writer)
        os.close(command_reader)
        os.close(answer_writer)

    def _run(self, body: Callable[[BinaryIO, BinaryIO], None], commands: int, answers: int) -> None:
        """Run the body in the child; never returns."""
        try:
            os.setpgid(0, 0)
            for signal_number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signal_number, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, destination in ((null, 0), (self._output, 1), (self._output, 2)):
                os.dup2(source, destination)
            body(os.fdopen(commands, "rb"), os.fdopen(answers, "wb"))
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        finally:
            os._exit(0)

    @property
    def fileno(self) -> int:
        """The descriptor on which answers arrive."""
        return self._answer_reader

    def command(self, message: Mapping[str, Any]) -> None:
        """Send a command; a dead child is noticed when its answer is read."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._command_writer, json.dumps(message).encode() + b"\n")

    def answer(self, deadline: float, kinds: tuple[FailureKind, FailureKind]) -> dict[str, Any]:
        """Wait for one answer.

        Parameters
        ----------
        deadline : float
            On the monotonic clock.
        kinds : tuple of FailureKind
            What a death and a missed deadline are called in this phase.

        Raises
        ------
        ChildFailedError
            The child reported a failure, died, or missed the deadline; it is gone then.
        InterruptedWaitError
            The host is wanted elsewhere; the child lives.
        """
        died, late = kinds
        while b"\n" not in self._buffer:
            left_secs = deadline - time.monotonic()
            ready = wait_readable([self._answer_reader, *self._interrupt], left_secs)
            if self._answer_reader not in ready and ready:
                raise InterruptedWaitError
            if not ready:
                self.end()
                raise ChildFailedError(Failure(kind=late, detail=self._tail("missed its deadline")))
            received = os.read(self._answer_reader, 65536)
            if not received:
                detail = self._tail(self.end())
                raise ChildFailedError(Failure(kind=died, detail=detail))
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if "failure" in message:
            self.end()
            raise ChildFailedError(
                Failure(kind=FailureKind(message["failure"]), detail=message["detail"])
            )
        return message

    def pause(self) -> None:
        """Stop all of the child's threads until `resume`; they stand still when this returns.

        Idempotent; a dead child stays dead.
        """
        self._signal(signal.SIGSTOP)
        # A thread stops when it next has a core, which on a busy machine is later.
        deadline = time.monotonic() + STOP_SECS
        while not self._stands_still() and time.monotonic() < deadline:
            time.sleep(STOP_STEP_SECS)

    def resume(self) -> None:
        """Let the child go on. Idempotent."""
        self._signal(signal.SIGCONT)

    def _stands_still(self) -> bool:
        """Whether the child is stopped or dead; it is not reaped."""
        asked = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self._ended or os.waitid(os.P_PID, self.pid, asked) is not None

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended:
            # Until it is reaped, its number is its own.
            os.kill(self.pid, number)

    def end(self) -> str:
        """Kill the child and all it started, reap it, and say how it ended. Idempotent."""
        if self._ended:
            return "ended"
        self._ended = True
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            # The child may have hung before it made its own process group.
            for kill in (os.killpg, os.kill):
                try:
                    kill(self.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            _, status = os.waitpid(self.pid, 0)
        for descriptor in (self._command_writer, self._answer_reader):
            os.close(descriptor)
        if os.WIFSIGNALED(status):
            return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"exited with status {os.WEXITSTATUS(status)} before it answered"

    def close(self) -> None:
        """End the child and forget its output."""
        self.end()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    def _tail(self, reason: str) -> str:
        size = os.fstat(self._output).st_size
        tail = os.pread(self._output, OUTPUT_TAIL_BYTES, max(0, size - OUTPUT_TAIL_BYTES))
        text = tail.decode(errors="replace").strip()
        return f"{reason}; last output: {text}" if text else reason


def wait_readable(descriptors: list[int], seconds: float) -> list[int]:
    """Return those descriptors that can be read, after at most so many seconds."""
    return select.select(descriptors, [], [], max(0.0, seconds))[0]


class InterruptedWaitError(Exception):
    """Waiting for a child ended because the host is wanted elsewhere."""


class ChildFailedError(Exception):
    """A child has no answer; carries the failure for the record."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure
