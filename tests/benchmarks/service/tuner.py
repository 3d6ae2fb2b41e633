"""The real orchestrator with a search that has its candidates ready.

Run as ``python -m tests.benchmarks.service.tuner DATABASE_URL JOBS_AT_ONCE``; ends with its input.
Searching is measured elsewhere, and would take both cores here.
"""

import logging
import sys
from concurrent.futures import Future

from schedules.records import Candidate, trace_id
from service.compute import SearchPool
from service.db.notify import Channel
from service.db.store import Store
from service.events import Events
from service.orchestrator import Orchestrator
from tuner.client import convert, wire
from tuner.search.step import StepRequest

# As long as a usual trace: some 20 instructions and decisions.
_INSTRUCTIONS = '["SamplePerfectTile",["b0","l1"],[4,64],["v1","v2","v3","v4"]],' * 20


class PreparedPool(SearchPool):
    """Proposes numbered candidates at once."""

    def __init__(self) -> None:
        """Start no processes."""

    def submit(self, request: StepRequest) -> Future[tuple[wire.CandidateWire, ...]]:
        """Propose what no trial of the workload has had yet."""
        first = len(request.trials)
        future: Future[tuple[wire.CandidateWire, ...]] = Future()
        numbers = range(first, first + request.count)
        future.set_result(tuple(convert.candidate_to_wire(_candidate(n)) for n in numbers))
        return future

    def close(self) -> None:
        """Nothing runs."""


def _candidate(number: int) -> Candidate:
    trace = f"[[{_INSTRUCTIONS[:-1]}],[[{number},[4,4,4]]]]"
    return Candidate(trace=trace, trace_id=trace_id(trace))


def main(database_url: str, processes: int) -> None:
    """Tune until standard input ends."""
    logging.basicConfig(level=logging.WARNING)
    store, events = Store.open(database_url), Events()
    channel = Channel(database_url, receive=events.receive, missed=events.missed)
    events.connect(channel.send)
    orchestrator = Orchestrator(
        store=store, events=events, pool=PreparedPool(), processes=processes, quiet=False
    )
    channel.start()
    orchestrator.start()
    try:
        sys.stdin.read()
    finally:
        orchestrator.stop()
        channel.stop()
        store.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
