"""The measurer for this machine."""

import logging
from collections.abc import Iterator
from types import TracebackType

from schedules.errors import UnavailableError
from schedules.records import Environment, MeasureResult
from schedules.target import Target
from schedules.workload import OperatorCall, Workload
from tuner.client import convert, wire
from tuner.measure.connection import HostConnection
from tuner.measure.protocol import MeasureBatch
from tuner.sandbox import resolve_command, resolved

logger = logging.getLogger(__name__)

RESTARTS = 2


class LocalMeasurer:
    """Measures on this machine through a host process; implements `Measurer`.

    Parameters
    ----------
    builders : int or None
        How many candidates are built at once; by default as many as there are cores to build on.
    device : str
        ``cpu``, or a GPU as in ``cuda:0``: its number among those that this process may use.
    build_cores : frozenset of int or None
        Cores to build trials on while others are timed: none of those that are measured. None
        builds a batch on the measured ones before it is timed.
    """

    def __init__(
        self,
        *,
        builders: int | None = None,
        device: str = "cpu",
        build_cores: frozenset[int] | None = None,
    ) -> None:
        self._device = device
        self._builders = builders
        self._build_cores = build_cores
        self._connection: HostConnection | None = None
        self._batches = 0
        self.busy_cores: dict[int, float | None] = {}

    def start(self) -> None:
        """Start the host process, and do not wait for it; the first use does it otherwise."""
        self._connected()

    def resolve(self, call: OperatorCall) -> Workload:
        """Write the program of a checked operator call, in a child of the host.

        Raises
        ------
        InputError
            TVM refuses the program.
        UnavailableError
            No host process can be kept alive.
        """
        return resolved(self._connected().ask(resolve_command(call)))

    def describe(self) -> tuple[Target, Environment]:
        """Return the device's native target and environment.

        Raises
        ------
        UnavailableError
            There is no such device, or no host process can be kept alive.
        """
        answer = self._connected().ask({"command": "describe"})
        if answer["answer"] == "refused":
            raise UnavailableError(answer["detail"])
        return Target.parse(answer["target"]), convert.environment(answer["environment"])

    def reference(self) -> MeasureResult | None:
        """Run the reference kernel; a host that died is replaced once.

        Returns
        -------
        MeasureResult or None
            None for a GPU: there is no reference kernel for it yet.

        Raises
        ------
        UnavailableError
            No host process can be kept alive.
        """
        if self._device != "cpu":
            return None
        try:
            answer = self._connected().ask({"command": "reference"})
        except UnavailableError:
            self.close()
            answer = self._connected().ask({"command": "reference"})
        return convert.result_from_wire(wire.ResultWire.model_validate(answer["result"]))

    def measure(self, batch: MeasureBatch) -> Iterator[tuple[int, MeasureResult]]:
        """Measure a batch; see `Measurer`. A host that dies is replaced and the rest measured."""
        self.busy_cores = {}
        left = dict(enumerate(batch.candidates))
        for restart in range(RESTARTS + 1):
            places = list(left)
            try:
                for place, result in self._measure(batch, places):
                    del left[places[place]]
                    yield places[place], result
                return
            except UnavailableError:
                self.close()
                if restart == RESTARTS:
                    raise
                logger.warning("the measuring host died; starting another")

    def interrupt(self) -> None:
        """End the present `measure` early, if there is one; thread-safe."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def close(self) -> None:
        """End the host process. Idempotent; the next call starts another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "LocalMeasurer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _connected(self) -> HostConnection:
        if self._connection is None or not self._connection.alive:
            self.close()
            self._connection = HostConnection(
                builders=self._builders, device=self._device, build_cores=self._build_cores
            )
        return self._connection

    def _measure(
        self, batch: MeasureBatch, places: list[int]
    ) -> Iterator[tuple[int, MeasureResult]]:
        connection = self._connected()
        # Inputs are fresh in every batch, and the same for all candidates of one.
        self._batches += 1
        connection.send(
            {
                "command": "measure",
                "batch": _to_wire(batch, places).model_dump(mode="json"),
                "seed": self._batches,
            }
        )
        ended = False
        try:
            for answer in connection.answers():
                if answer["answer"] == "end":
                    ended = True
                    return
                self.busy_cores[places[answer["place"]]] = answer["busy_cores"]
                view = wire.ResultWire.model_validate(answer["result"])
                yield answer["place"], convert.result_from_wire(view)
                connection.send({"command": "next"})
        finally:
            # The caller stopped listening: so must the host, before its next command.
            if not ended and connection.alive:
                connection.send({"command": "stop"})
                for answer in connection.answers():
                    if answer["answer"] == "end":
                        break


def _to_wire(batch: MeasureBatch, places: list[int]) -> wire.BatchWire:
    return wire.BatchWire(
        workload=convert.workload_to_wire(batch.workload),
        target=batch.target.as_dict(),
        purpose=batch.purpose,
        candidates=[convert.candidate_to_wire(batch.candidates[place]) for place in places],
        incumbent_secs=batch.incumbent_secs,
    )
