"""``tunesmith`` with prepared candidates in place of a search; everything else is the product's.

A search would take seconds for each step and import TVM. This one numbers the candidates of a job:
the n-th trial is always candidate n, so that a step which is committed twice shows.
"""

import os
import sys
from concurrent.futures import Future
from pathlib import Path

import service.compute
import service.orchestrator
from tests.chaos.candidates import numbered
from tests.chaos.ledger import Ledger
from tuner.cli import main
from tuner.client import wire
from tuner.search.step import StepRequest

LEDGER = "CHAOS_LEDGER"
BATCH = "CHAOS_BATCH"
OWNER_TTL_SECS = "CHAOS_OWNER_TTL_SECS"


class PreparedPool(service.compute.SearchPool):
    """Proposes at once, and notes in the ledger what."""

    def __init__(self, *, processes: int) -> None:
        self._ledger = Ledger(Path(os.environ[LEDGER]))
        self._batch = int(os.environ[BATCH])

    def submit(self, request: StepRequest) -> Future[tuple[wire.CandidateWire, ...]]:
        """Take the next numbers."""
        first = len(request.trials)
        numbers = range(first, first + min(request.count, self._batch))
        self._ledger.note("proposed", job=request.search_id, first=first, count=len(numbers))
        future: Future[tuple[wire.CandidateWire, ...]] = Future()
        future.set_result(tuple(numbered(request.search_id, number) for number in numbers))
        return future

    def close(self) -> None:
        """Nothing runs."""


if __name__ == "__main__":
    service.compute.SearchPool = PreparedPool  # type: ignore[misc]  # in place of the search
    if OWNER_TTL_SECS in os.environ:
        service.orchestrator.OWNER_TTL_SECS = float(os.environ[OWNER_TTL_SECS])
    sys.argv[0] = "tunesmith"
    main()
