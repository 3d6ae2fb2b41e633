"""Results that the server has not acknowledged yet, safe on disk."""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schedules.errors import UnavailableError
from tuner.client import wire

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SpooledResult:
    """One result with all that posting it needs.

    Attributes
    ----------
    lease_id : str
        The lease under which it was measured.
    request : ResultsRequest
        A body with this one result.
    """

    lease_id: str
    request: wire.ResultsRequest

    @property
    def item_id(self) -> str:
        """Id of the measured item."""
        return self.request.results[0].item_id


class Spool:
    """A file of JSON lines, one for each unacknowledged result.

    A result is on the disk when `add` returns true. What was posted but not yet acknowledged when
    the process died is posted again: the server answers that it knows it. One process at a time may
    open it: the one that holds the device's lock.

    A disk that is full or broken stops nothing: what cannot be written stays in memory and
    `is_durable` is false, until a later write of everything succeeds.

    Parameters
    ----------
    path : Path
        Is made if missing. Lines that cannot be read, and results that the server refuses, go to a
        file beside it whose name ends in ``.rejected``.

    Attributes
    ----------
    is_durable : bool
        Whether all that is pending is on the disk.

    Raises
    ------
    UnavailableError
        The file is there and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rejected = path.with_name(path.name + ".rejected")
        self._pending: dict[str, SpooledResult] = {}
        self.is_durable = True
        self._load()
        # What a torn write left at the end would spoil the next line.
        self._keep(self._rewrite)

    def __len__(self) -> int:
        return len(self._pending)

    def pending(self) -> tuple[SpooledResult, ...]:
        """Return what is not acknowledged, oldest first."""
        return tuple(self._pending.values())

    def add(self, result: SpooledResult) -> bool:
        """Take a result; where the answer is true it survives a crash of the machine."""
        self._pending[result.item_id] = result
        # After a failed write the end of the file may be torn.
        write = partial(_append, self._path, _line(result)) if self.is_durable else self._rewrite
        return self._keep(write)

    def acknowledge(self, item_ids: list[str]) -> None:
        """Forget results that the server has."""
        for item_id in item_ids:
            self._pending.pop(item_id, None)
        self._keep(self._rewrite)

    def reject(self, item_ids: list[str]) -> None:
        """Put results aside that the server will never take."""
        lines = [_line(self._pending[item_id]) for item_id in item_ids if item_id in self._pending]
        self._put_aside(b"".join(lines))
        self.acknowledge(item_ids)

    def _keep(self, write: Callable[[], None]) -> bool:
        """Try to write, and note whether the disk holds everything after it."""
        try:
            write()
        except OSError as error:
            # What the server has acknowledged may stay on the disk: it would be posted twice.
            if self.is_durable:
                logger.error(
                    "results cannot be written to %s (%s) and wait in memory; make room there, or "
                    "stop the worker and give it another --state-dir",
                    self._path,
                    error,
                )
            self.is_durable = False
            return False
        if not self.is_durable:
            logger.info("results are written to %s again", self._path)
        self.is_durable = True
        return True

    def _load(self) -> None:
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnavailableError(
                f"results of an earlier run cannot be read from {self._path} ({error}); make it "
                "readable, or move it away"
            ) from None
        for line in lines:
            try:
                result = _parsed(line)
            except (ValueError, KeyError, TypeError, ValidationError) as error:
                logger.warning(
                    "a line of %s cannot be read and is put aside: %s", self._path, error
                )
                self._put_aside(line.rstrip(b"\n") + b"\n")
                continue
            self._pending[result.item_id] = result
        if self._pending:
            logger.info("%d results of an earlier run are still to be posted", len(self._pending))

    def _put_aside(self, lines: bytes) -> None:
        try:
            _append(self._rejected, lines)
        except OSError as error:
            # The log is the last place where they can be found.
            logger.error("%s cannot be written (%s); lost: %r", self._rejected, error, lines)

    def _rewrite(self) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        _append(fresh, b"".join(_line(result) for result in self._pending.values()))
        fresh.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _append(path: Path, data: bytes) -> None:
    """Write to the end of a file and wait until the disk has it."""
    with path.open("ab", buffering=0) as file:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())


def _line(result: SpooledResult) -> bytes:
    value = {"lease_id": result.lease_id, "request": result.request.model_dump(mode="json")}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> SpooledResult:
    value: dict[str, Any] = json.loads(line)
    return SpooledResult(
        lease_id=str(value["lease_id"]),
        request=wire.ResultsRequest.model_validate(value["request"]),
    )
