"""Parsing untrusted programs in a process that may die."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schedules import errors
from schedules.errors import InputError, InvalidTargetError, UnavailableError
from schedules.target import Target
from schedules.workload import OperatorCall, Workload
from tuner.client import convert, wire
from tuner.measure.connection import HostConnection


def resolve_command(call: OperatorCall) -> dict[str, Any]:
    """Return the host's command that writes the program of a checked operator call."""
    return {
        "command": "resolve",
        "op": call.op,
        "args": dict(call.args),
        "dtype": call.dtype,
        "constants": list(call.constants),
    }


def resolved(answer: Mapping[str, Any]) -> Workload:
    """Read a host's answer to a ``resolve`` command.

    Raises
    ------
    InputError
        It refused the program.
    """
    if answer["answer"] == "refused":
        kind = getattr(errors, answer["error"], InputError)
        raise kind(answer["detail"])
    return convert.workload_from_wire(wire.WorkloadWire.model_validate(answer["workload"]))


@dataclass(frozen=True, kw_only=True)
class Program:
    """A scheduled program as text; long ones are cut off.

    Attributes
    ----------
    script : str
        TVMScript.
    code : str or None
        What it compiles to: assembly for CPUs, CUDA for GPUs.
    language : str
        Which of the two.
    problem : str or None
        Why there is no code.
    """

    script: str
    code: str | None
    language: str
    problem: str | None


class Sandbox:
    """Turns requests into workloads through a host whose children do the parsing.

    Thread-safe: one request at a time. A child that crashes or hangs costs its request only; a host
    that dies is replaced once per request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: HostConnection | None = None

    def resolve_call(self, call: OperatorCall) -> Workload:
        """Write the program of a checked operator call.

        Raises
        ------
        InputError
            TVM refuses the program.
        UnavailableError
            No host process can be kept alive.
        """
        return self._resolve(resolve_command(call))

    def resolve_ir(self, text: str, name: str | None) -> Workload:
        """Parse and check IR JSON; see `schedules.ir.workload_from_ir`.

        Raises
        ------
        InvalidWorkloadError
            It is not a tunable program, or parsing it kills or hangs the parser.
        UnavailableError
            No host process can be kept alive.
        """
        return self._resolve({"command": "resolve", "ir": text, "name": name})

    def check_target(self, target: Target) -> None:
        """Ask the compiler whether it knows a target.

        Raises
        ------
        InvalidTargetError
            It does not.
        """
        answer = self._ask({"command": "target", "target": target.as_dict()})
        if answer["answer"] == "refused":
            raise InvalidTargetError(answer["detail"])

    def tagged_target(self, tag: str) -> Target:
        """Ask the compiler what one of its tags stands for, such as ``nvidia/nvidia-h100``.

        Raises
        ------
        InvalidTargetError
            It has no such tag, or the tag's kind cannot be tuned for.
        """
        answer = self._ask({"command": "target", "target": tag})
        if answer["answer"] == "refused":
            raise InvalidTargetError(f"target {tag!r}: {answer['detail']}")
        return Target.parse(answer["target"])

    def print_program(self, workload: Workload, target: Target, trace: str) -> Program:
        """Apply a trace, and write the program and the code that it compiles to.

        Raises
        ------
        InvalidTraceError
            The trace does not apply to the workload.
        InputError
            Printing it kills or hangs the process that does.
        UnavailableError
            No host process can be kept alive.
        """
        answer = self._ask(
            {
                "command": "print",
                "workload": convert.workload_to_wire(workload).model_dump(mode="json"),
                "target": target.as_dict(),
                "trace": trace,
            }
        )
        if answer["answer"] == "refused":
            raise getattr(errors, answer["error"], InputError)(answer["detail"])
        return Program(
            script=answer["script"],
            code=answer["code"],
            language=answer["language"],
            problem=answer["problem"],
        )

    def close(self) -> None:
        """End the host process. Idempotent."""
        with self._lock:
            self._disconnect()

    def _resolve(self, command: Mapping[str, Any]) -> Workload:
        return resolved(self._ask(command))

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                return self._connected().ask(command)
            except UnavailableError:
                self._disconnect()
                return self._connected().ask(command)

    def _connected(self) -> HostConnection:
        if self._connection is None or not self._connection.alive:
            self._disconnect()
            self._connection = HostConnection(builders=1)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
