"""A real worker daemon whose measurer invents times, notes them in the ledger, and may die.

Run as ``python -m tests.chaos.worker --help``.
"""

import argparse
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from schedules.records import Candidate, Environment, MeasureResult, Purpose, Verification
from schedules.target import Target
from tests.chaos.candidates import prepared
from tests.chaos.ledger import Ledger
from tuner.client.http import Connection
from tuner.measure.protocol import DeviceMeasurer, MeasureBatch
from tuner.worker.daemon import WorkerConfig, WorkerDaemon
from tuner.worker.spool import Spool, SpooledResult

TARGET = Target.parse({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2})
MEASUREMENT_BITS = 48
_SCALE = 2.0**-70
"""A measurement's number times this is a run time that every database keeps exactly."""
_CHECKED = Verification(reference="numpy", tolerance=1e-5, error=0.0, passed=True)


def measurement_of(run_secs: tuple[float, ...]) -> int:
    """Return the number of the measurement that a record's run times carry."""
    return round(run_secs[-1] / _SCALE)


class LedgerMeasurer:
    """Invents times.

    Parameters
    ----------
    ledger : Ledger
        Every measurement is in it before anyone else knows of it.
    secs : float
        A candidate takes a random time up to this.
    poison : int
        Every trial of a job whose number is one less than a multiple of this kills the process; 0
        is none.
    """

    def __init__(self, ledger: Ledger, *, secs: float, poison: int = 0) -> None:
        self._ledger = ledger
        self._secs = secs
        self._poison = poison
        self._interrupted = threading.Event()

    def describe(self) -> tuple[Target, Environment]:
        """Return a made-up machine."""
        return TARGET, Environment(facts=MappingProxyType({"device": "ledger"}))

    def reference(self) -> MeasureResult:
        """Invent a device that is well."""
        return MeasureResult(run_secs=(1e-3,) * 8)

    def interrupt(self) -> None:
        """See `tuner.measure.protocol.DeviceMeasurer`."""
        self._interrupted.set()

    def measure(self, batch: MeasureBatch) -> Iterator[tuple[int, MeasureResult]]:
        """Measure every candidate; see `tuner.measure.protocol.Measurer`."""
        self._interrupted.clear()
        for place, candidate in enumerate(batch.candidates):
            if self._interrupted.wait(random.uniform(0, self._secs)):
                return
            facts = {
                "workload": batch.workload.workload_id,
                "purpose": batch.purpose,
                "trace": candidate.trace_id,
                "prepared": prepared(candidate.trace),
            }
            if batch.purpose is Purpose.TRIAL and self._is_poison(candidate):
                self._ledger.note("crashed", sync=True, **facts)
                os.kill(os.getpid(), signal.SIGKILL)
            measurement = random.getrandbits(MEASUREMENT_BITS) or 1
            self._ledger.note("measured", sync=True, measurement=measurement, **facts)
            secs = 1e-3 * (1 + place)
            yield (
                place,
                MeasureResult(
                    run_secs=(secs, secs, measurement * _SCALE),
                    build_secs=0.1,
                    verification=_CHECKED if batch.purpose is Purpose.FINAL else None,
                ),
            )

    def _is_poison(self, candidate: Candidate) -> bool:
        made = prepared(candidate.trace)
        return bool(self._poison) and made is not None and (made[1] + 1) % self._poison == 0


class WatchedConnection(Connection):
    """Notes when leases were asked for and extended, and what the server said."""

    def __init__(self, server: str, ledger: Ledger) -> None:
        super().__init__(server)
        self._ledger = ledger

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; see `Connection`."""
        name = path.rpartition("/")[2]
        if name not in ("lease", "heartbeat"):
            return super().send(method, path, **options)
        sent, facts = time.monotonic(), dict[str, Any](status="error")
        if name == "heartbeat":
            facts |= {"lease": path.split("/")[-2], "epoch": options["body"].epoch}
        try:
            answer = super().send(method, path, **options)
            facts["status"] = "ok"
            if answer.status_code == 200:
                told = answer.json()
                facts["ttl_secs"] = told["ttl_secs"]
                if name == "lease":
                    facts |= {"lease": told["lease_id"], "epoch": told["epoch"]}
                    facts["items"] = len(told["items"])
            return answer
        except Exception as error:
            facts |= {"status": type(error).__name__, "told": str(error)}
            raise
        finally:
            if "lease" in facts:
                self._ledger.note(name, sent=sent, **facts)


def die_after_spooling(ledger: Ledger, odds: float, deaths: int) -> None:
    """Let the process be killed between spool and post, now and then, until so many were."""
    add = Spool.add

    def add_and_die(self: Spool, result: SpooledResult) -> bool:
        stored = add(self, result)
        if random.random() < odds and len(ledger.lines("killed")) < deaths:
            ledger.note("killed", sync=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return stored

    Spool.add = add_and_die  # type: ignore[method-assign]  # the point in time is in its middle


def run_daemon(options: argparse.Namespace, measurer: DeviceMeasurer, ledger: Ledger) -> None:
    """Run a daemon until it is told to stop."""
    config = WorkerConfig(
        name=options.name, state_dir=options.state_dir, poll_secs=options.poll_secs
    )
    with WatchedConnection(options.server, ledger) as connection:
        WorkerDaemon(connection, measurer, config).run()


def parser() -> argparse.ArgumentParser:
    """Describe what every worker is told."""
    made = argparse.ArgumentParser()
    made.add_argument("--server", required=True)
    made.add_argument("--name", required=True)
    made.add_argument("--state-dir", type=Path, required=True)
    made.add_argument("--ledger", type=Path, required=True)
    made.add_argument("--poll-secs", type=float, default=5.0)
    return made


def main() -> None:
    """Run a daemon until it is told to stop, or dies as it was told to."""
    made = parser()
    made.add_argument("--secs", type=float, default=0.02, help="a candidate takes at most this")
    made.add_argument("--poison", type=int, default=0, help="each so many-th trial kills it")
    made.add_argument("--die-spooled", type=float, default=0.0, help="odds to die after a spool")
    made.add_argument("--deaths", type=int, default=0, help="of all workers together")
    options = made.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    ledger = Ledger(options.ledger)
    if options.die_spooled:
        die_after_spooling(ledger, options.die_spooled, options.deaths)
    run_daemon(options, LedgerMeasurer(ledger, secs=options.secs, poison=options.poison), ledger)


if __name__ == "__main__":
    main()
