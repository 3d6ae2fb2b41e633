"""How long a candidate may take."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

FILLED_BYTES_PER_SEC = 1e8
"""A slow machine fills buffers so fast."""


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """How long a candidate may take.

    Attributes
    ----------
    build_secs : float
        For replay and code generation, at most.
    slow_build_secs : float
        Even a build that takes far longer than the others of its batch may take this.
    slow_build_factor : float
        So much longer than their median is far longer.
    run_secs : float
        For one command of a trial.
    hopeless_run_secs, hopeless_factor : float
        What a trial may take at most that has an incumbent: so long, or so many of its calls.
    final_run_secs : float
        For one command of a final; the compiler's default may be very slow.
    """

    build_secs: float = 20.0
    slow_build_secs: float = 3.0
    slow_build_factor: float = 20.0
    run_secs: float = 10.0
    hopeless_run_secs: float = 3.0
    hopeless_factor: float = 1000.0
    final_run_secs: float = 120.0

    def of_build(self, finished_secs: Sequence[float]) -> float:
        """Return what a build may take, from what others of its batch took.

        A build that never ends would hold up its batch for `build_secs`. Once a quarter of a batch
        of 16 is built, the usual time is known well enough.
        """
        if len(finished_secs) < 4:
            return self.build_secs
        usual_secs = self.slow_build_factor * median(finished_secs)
        return min(self.build_secs, max(self.slow_build_secs, usual_secs))

    def of_trial(self, incumbent_secs: float | None, size_bytes: int) -> float:
        """Return what a trial may take against an incumbent, with buffers of so many bytes.

        One that does not even end by then is no contender; without an incumbent nobody knows.
        """
        if incumbent_secs is None:
            return self.run_secs
        least_secs = self.hopeless_run_secs + size_bytes / FILLED_BYTES_PER_SEC
        return min(self.run_secs, max(least_secs, self.hopeless_factor * incumbent_secs))
