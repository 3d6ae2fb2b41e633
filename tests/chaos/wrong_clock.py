"""A worker whose wall clock is a day off and jumps; see `tests.chaos.worker`.

Only Python's clocks are spoilt, before anything of the product is imported: the daemon is Python.
"""

import datetime
import random
import sys
import time
from pathlib import Path
from typing import Any

_DAY_SECS = 86400.0
_JUMP_EVERY_SECS = 0.3


class _WrongClock:
    """Each of Python's wall clocks, some time off; the time changes several times a second."""

    def __init__(self) -> None:
        self.jumps = 0
        self._time, self._datetime = time.time, datetime.datetime
        self._offset_secs = 0.0
        self._next_jump = 0.0

    def offset_secs(self) -> float:
        """How far off it is now."""
        if time.monotonic() >= self._next_jump:
            self._next_jump = time.monotonic() + _JUMP_EVERY_SECS
            self._offset_secs = random.choice((-_DAY_SECS, _DAY_SECS)) * random.uniform(0.5, 1.5)
            self.jumps += 1
        return self._offset_secs

    def time(self) -> float:
        """Stand for `time.time`."""
        return self._time() + self.offset_secs()

    def install(self) -> None:
        """Replace the right clocks."""
        clock, right = self, self._datetime

        class WrongDatetime(right):  # type: ignore[valid-type,misc]  # its class is a variable
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> Any:
                return right.now(tz) + datetime.timedelta(seconds=clock.offset_secs())

            @classmethod
            def utcnow(cls) -> Any:
                return right.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(
                    seconds=clock.offset_secs()
                )

        time.time = self.time
        time.time_ns = lambda: int(self.time() * 1e9)
        datetime.datetime = WrongDatetime  # type: ignore[misc]  # for whoever imports it from now


def main() -> None:
    """Run a worker."""
    clock = _WrongClock()
    clock.install()
    # Only now: what is imported keeps references to the clocks it finds.
    from tests.chaos import worker
    from tests.chaos.ledger import Ledger

    assert abs(time.time() - clock._time()) > _DAY_SECS / 4
    try:
        worker.main()
    finally:
        path = Path(sys.argv[sys.argv.index("--ledger") + 1])
        for _ in range(clock.jumps):
            Ledger(path).note("jumped")


if __name__ == "__main__":
    main()
