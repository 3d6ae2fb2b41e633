"""Bests as programs: written elsewhere, since this process has no compiler."""

from typing import Protocol

from schedules.target import Target
from schedules.workload import Workload
from service.recent import Recent
from tuner.sandbox import Program as Program

_REMEMBERED = 32


class Printer(Protocol):
    """Writes scheduled programs within a deadline; `tuner.sandbox.Sandbox` is one. Thread-safe."""

    def print_program(self, workload: Workload, target: Target, trace: str) -> Program:
        """Apply a trace and write what it makes; see `tuner.sandbox.Sandbox`."""
        ...


class Programs:
    """Remembers what was written last. Thread-safe.

    Parameters
    ----------
    printer : Printer
        Knows the compiler.
    """

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._recent: Recent[tuple[str, str, str], Program] = Recent(_REMEMBERED)

    def program(self, workload: Workload, target: Target, trace: str) -> Program:
        """Write a workload's program as a trace makes it.

        Raises
        ------
        InputError
            The trace does not apply, or writing it takes too long.
        UnavailableError
            Nothing can be written now.
        """
        key = (workload.workload_id, target.target_id, trace)
        known = self._recent.get(key)
        if known is None:
            known = self._printer.print_program(workload, target, trace)
            self._recent.put(key, known)
        return known
