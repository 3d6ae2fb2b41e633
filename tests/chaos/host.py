"""A measuring host whose children crash, hang, run out of memory or leave, as prepared.

What they do follows from their candidate's number. Fork, limits, pipes, deadlines and everything
else are the product's, but for shorter deadlines.
"""

import ctypes
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from schedules.records import DEFAULT_TRACE
from tests.chaos.candidates import fault_of, is_built_first, prepared
from tests.chaos.ledger import Ledger
from tests.chaos.server import LEDGER
from tuner.measure import child, host
from tuner.measure.deadlines import Deadlines
from tuner.measure.forked import ForkedChild
from tuner.measure.kernel import Assignment

DEADLINES = Deadlines(build_secs=6.0, run_secs=4.0)


def _segfault() -> None:
    ctypes.string_at(1)


def _hang() -> None:
    while True:
        time.sleep(3600)


def _exhaust_memory() -> None:
    blocks = []
    while True:
        # Not touched: the limit is on addresses, and several children at once must not fill the
        # machine.
        blocks.append(np.empty(2**28, np.uint8))


_FAULTS: Mapping[str, Callable[[], None]] = {
    "segfault": _segfault,
    "hang": _hang,
    "memory": _exhaust_memory,
    "exit": partial(os._exit, 0),
}


def main() -> None:
    """Serve as `tuner.measure.host` does."""
    ledger = Ledger(Path(os.environ[LEDGER]))
    serve, end = child.serve, ForkedChild.end

    def serve_or_fail(assignment: Assignment, commands: BinaryIO, answers: BinaryIO) -> None:
        made = prepared(assignment.trace)
        if made is None:
            return serve(assignment, commands, answers)
        fault = fault_of(made[1])
        if fault is None:
            return serve(replace(assignment, trace=DEFAULT_TRACE), commands, answers)
        deadline_secs = DEADLINES.build_secs
        if is_built_first(made[1]):
            deadline_secs = DEADLINES.run_secs
            answers.write(json.dumps({"built_secs": 0.1, "code_id": None}).encode() + b"\n")
            answers.flush()
            commands.readline()
        ledger.note("failed", fault=fault, deadline_secs=deadline_secs)
        return _FAULTS[fault]()

    def end_and_note(self: ForkedChild) -> str:
        ended, how = self._ended, end(self)
        if not ended:
            ledger.note("ended", child=self.pid)
        return how

    child.serve = serve_or_fail
    ForkedChild.end = end_and_note  # type: ignore[method-assign]  # to note the time
    # Hangs need not last as long as they may.
    vars(host)["Deadlines"] = lambda: DEADLINES
    host.main()


if __name__ == "__main__":
    main()
