"""The outside ledger: what was really done, in a file that no part of the product knows."""

import json
import os
import time
from pathlib import Path
from typing import Any


class Ledger:
    """An append-only file of JSON lines; any number of processes and threads may write it.

    Every line has its ``kind``, the writer's ``pid``, and ``at``: seconds on the machine's
    monotonic clock, which all processes share and nobody sets.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def note(self, kind: str, *, sync: bool = False, **facts: Any) -> None:
        """Append a line; with `sync`, it is on the disk when this returns."""
        line = {"kind": kind, "at": time.monotonic(), "pid": os.getpid(), **facts}
        # One write: the kernel appends it as a whole.
        os.write(self._file, json.dumps(line).encode() + b"\n")
        if sync:
            os.fsync(self._file)

    def lines(self, *kinds: str, since: int = 0) -> list[dict[str, Any]]:
        """Return the lines of these kinds, in the order in which they were written.

        Parameters
        ----------
        since : int
            A `size` of earlier, to leave out what was there then.
        """
        with self._path.open("rb") as file:
            file.seek(since)
            found = [json.loads(line) for line in file if line.endswith(b"\n")]
        return [line for line in found if line["kind"] in kinds]

    @property
    def size(self) -> int:
        """How long the file is, in bytes."""
        return os.fstat(self._file).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
