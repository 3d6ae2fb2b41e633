"""What is said of the machine that a kernel was timed on, and what a process can know of it.

Others are seen by `tuner.measure.watch`; what it costs a kernel that they want its cores is known
to the system.
"""

import contextlib
from enum import StrEnum
from pathlib import Path


class Noise(StrEnum):
    """What was seen of the machine while a candidate was timed, and what was done about it."""

    CALM = "calm"
    WAITED = "waited"
    """It was disturbed before; timing waited until it was calm."""
    REPEATED = "repeated"
    """It was disturbed meanwhile; what counts was timed again when it was calm."""
    DISTURBED = "disturbed"
    """It did not become calm in time: the run times may be too long."""


def waited_secs() -> float:
    """Return how long the present threads of this process have waited for a core, together.

    Always 0 where the system keeps no account of that.
    """
    nanosecs = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            nanosecs += int((thread / "schedstat").read_text().split()[1])
    return nanosecs / 1e9
