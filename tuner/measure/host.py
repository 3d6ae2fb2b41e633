"""The measuring host: imports TVM once, then forks a child for every candidate and every parse.

Run as ``python -m tuner.measure DEVICE``. It reads one JSON command a line from standard input
and writes JSON lines to standard output:

=========  ==========================================================================
command    answer
=========  ==========================================================================
describe   ``described`` with the native target and environment
measure    ``result`` for every candidate, then ``end``; after each result it waits for
           ``next`` before it goes on; a ``stop`` ends it at any time
reference  ``reference`` with the result of the reference kernel, which runs on the CPU
resolve    ``resolved`` with the workload, or ``refused`` with the error
target     ``accepted`` (a tag with its target), or ``refused`` with the error
print      ``printed`` with a scheduled program and its code, or ``refused``
=========  ==========================================================================

The host ends when its standard input does. It has one thread, and never starts TVM's thread pool:
only so can it be forked.
"""

import argparse
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO

import tvm

from schedules import detect, ir
from schedules.errors import InputError, UnavailableError
from schedules.records import FailureKind
from schedules.target import Target
from schedules.workload import OperatorCall
from tuner.client import convert, wire
from tuner.client.requests import code_target
from tuner.measure import child, cuda_build, gpu, listing
from tuner.measure.bench import Bench
from tuner.measure.cores import format_cores, parse_cores
from tuner.measure.deadlines import Deadlines
from tuner.measure.forked import ChildFailedError, ForkedChild, InterruptedWaitError
from tuner.measure.protocol import MeasureBatch
from tuner.measure.reference import REFERENCE_VERSION

PARSE_SECS = 20.0
_PARSE_KINDS = (FailureKind.INVALID, FailureKind.INVALID)


class Host:
    """Answers commands until its input ends.

    Parameters
    ----------
    commands, answers : int
        Descriptors for lines of JSON.
    builders : int
        How many candidates are built at once.
    device : str
        What it measures on: ``cpu``, or a GPU as in ``cuda:0``.
    build_cores : frozenset of int or None
        Cores to build trials on while others are timed.
    """

    def __init__(
        self,
        commands: int,
        answers: int,
        *,
        builders: int,
        device: str,
        build_cores: frozenset[int] | None = None,
    ) -> None:
        self._device = device
        self._commands = commands
        self._answers = answers
        self._buffer = b""
        self._bench = Bench(
            builders=builders,
            deadlines=Deadlines(),
            interrupt=commands,
            device=device,
            build_cores=build_cores,
        )

    def serve(self) -> None:
        """Answer every command; return at the end of the input."""
        orders: dict[str, Callable[[dict[str, Any]], None]] = {
            "describe": lambda command: self._describe(),
            "measure": self._measure,
            "reference": lambda command: self._reference(),
            "resolve": self._resolve,
            "target": self._target,
            "print": self._print,
            "stop": lambda command: None,
        }
        while (command := self._next_command()) is not None:
            orders[command["command"]](command)

    def _next_command(self) -> dict[str, Any] | None:
        """Wait for a command; None at the end of the input."""
        while b"\n" not in self._buffer:
            received = os.read(self._commands, 1 << 20)
            if not received:
                return None
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\n", 1)
        command: dict[str, Any] = json.loads(line)
        return command

    def _may_go_on(self) -> bool:
        """Wait for leave to measure what is left of a batch."""
        command = self._next_command()
        # A `stop` that came with it would not be seen while a child is waited for.
        return command is not None and command["command"] == "next" and not self._buffer

    def _say(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]

    def _describe(self) -> None:
        facts = dict(detect.native_environment().facts)
        if self._device == "cpu":
            self._say(_described(detect.native_target(), {**facts, **_cpu_facts()}))
            return

        def describe() -> dict[str, Any]:
            found = gpu.find_gpu(gpu.ordinal_of(self._device))
            compiler = {"cuda_compiler": cuda_build.compiler_version()}
            cpu = {"cpu": facts["device"]}
            return _described(found.target, {**facts, **cpu, **found.facts, **compiler})

        # The driver is asked in a child: a process that has started CUDA cannot be forked.
        self._say(self._parsed(describe, confined=False))

    def _measure(self, command: dict[str, Any]) -> None:
        view = wire.BatchWire.model_validate(command["batch"])
        batch = MeasureBatch(
            workload=convert.workload_from_wire(view.workload),
            target=Target.parse(view.target),
            candidates=tuple(convert.candidate_from_wire(item) for item in view.candidates),
            purpose=view.purpose,
            incumbent_secs=view.incumbent_secs,
        )
        try:
            results = self._bench.measure(batch, seed=command["seed"])
            for measured in results:
                self._say(
                    {
                        "answer": "result",
                        "place": measured.place,
                        "result": convert.result_to_wire(measured.result).model_dump(mode="json"),
                        "busy_cores": measured.busy_cores,
                    }
                )
                if not self._may_go_on():
                    results.close()
        except InterruptedWaitError:
            # A `stop` or the end of the input: either is read by the main loop.
            pass
        self._say({"answer": "end"})

    def _reference(self) -> None:
        try:
            result = self._bench.reference(detect.native_target())
        except InterruptedWaitError:
            return
        view = convert.result_to_wire(result)
        self._say({"answer": "reference", "result": view.model_dump(mode="json")})

    def _resolve(self, command: dict[str, Any]) -> None:
        def resolve() -> dict[str, Any]:
            if "ir" in command:
                workload = ir.workload_from_ir(command["ir"], command["name"])
            else:
                workload = ir.workload_from_call(
                    OperatorCall(
                        op=command["op"],
                        args=MappingProxyType(dict(command["args"])),
                        dtype=command["dtype"],
                        constants=tuple(command["constants"]),
                    )
                )
            return {
                "answer": "resolved",
                "workload": convert.workload_to_wire(workload).model_dump(mode="json"),
            }

        self._say(self._parsed(resolve))

    def _target(self, command: dict[str, Any]) -> None:
        def accept() -> dict[str, Any]:
            target = tvm.target.Target(command["target"])
            if isinstance(command["target"], str):
                return {"answer": "accepted", "target": code_target(target).as_dict()}
            if target.kind.name == "llvm":
                known = set(map(str, tvm.target.codegen.llvm_get_cpu_archlist(target)))
                mcpu = str(target.attrs.get("mcpu", ""))
                if mcpu not in known:
                    raise InputError(f"LLVM has no CPU {mcpu!r} for this triple")
            return {"answer": "accepted"}

        self._say(self._parsed(accept))

    def _print(self, command: dict[str, Any]) -> None:
        def write() -> dict[str, Any]:
            view = wire.WorkloadWire.model_validate(command["workload"])
            target = Target.parse(command["target"])
            workload = convert.workload_from_wire(view)
            return {"answer": "printed", **listing.written(workload, target, command["trace"])}

        self._say(self._parsed(write))

    def _parsed(
        self, parse: Callable[[], dict[str, Any]], *, confined: bool = True
    ) -> dict[str, Any]:
        """Run `parse` in a child that may die of what it parses."""

        def body(commands: BinaryIO, answers: BinaryIO) -> None:
            if confined:
                child.confine(cpu_secs=int(PARSE_SECS))
            try:
                answer = parse()
            except Exception as error:
                answer = _refusal(error)
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()

        parser = ForkedChild(body)
        try:
            return parser.answer(time.monotonic() + PARSE_SECS, _PARSE_KINDS)
        except ChildFailedError as failed:
            return {
                "answer": "refused",
                "error": "InvalidWorkloadError",
                "detail": f"TVM could not load it: the parser {failed.failure.detail}",
            }
        finally:
            parser.close()


def _cpu_facts() -> dict[str, str | int]:
    """Facts that matter only where the CPU is what is measured."""
    facts: dict[str, str | int] = {"reference_version": REFERENCE_VERSION}
    cores = os.sched_getaffinity(0)
    if len(cores) < (os.cpu_count() or 1):
        facts["affinity"] = format_cores(cores)
    return facts


def _described(target: Target, facts: Mapping[str, str | int]) -> dict[str, Any]:
    return {
        "answer": "described",
        "target": target.as_dict(),
        "environment": dict(sorted(facts.items())),
    }


def _refusal(error: Exception) -> dict[str, Any]:
    known = isinstance(error, InputError | UnavailableError)
    kind = type(error).__name__ if known else "InputError"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return {
        "answer": "refused",
        "error": kind,
        "detail": (lines[-1] if lines else type(error).__name__)[:500],
    }


def main() -> None:
    """Serve standard input and output; whatever else prints goes to standard error."""
    answers = os.dup(1)
    os.dup2(2, 1)
    # A terminal's Ctrl-C goes to the owner, which then closes this process's input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m tuner.measure")
    parser.add_argument("device")
    parser.add_argument("--builders", type=int)
    parser.add_argument("--build-cores", type=parse_cores)
    options = parser.parse_args()
    cores = len(options.build_cores) if options.build_cores else detect.usable_cores()
    # A GPU's kernels are launched from a core, which no build should take away.
    builders = options.builders or (cores if options.device == "cpu" else max(1, cores - 1))
    try:
        host = Host(
            0,
            answers,
            builders=builders,
            device=options.device,
            build_cores=options.build_cores,
        )
        host.serve()
    except BrokenPipeError:
        return
