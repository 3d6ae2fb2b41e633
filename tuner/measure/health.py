"""Whether a device's timing can still be trusted, told from runs of the reference kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from schedules.runtimes import latency

DRIFT_LIMIT = 0.05
"""So far the latency may move from the baseline, as a fraction of it."""
SPREAD_LIMIT = 0.03
"""So far the runs may lie apart: their interquartile range, as a fraction of it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the runs of a reference kernel say.

    Attributes
    ----------
    latency_secs : float
        What the fastest of them agree on.
    spread : float
        Their interquartile range over that latency.
    problem : str or None
        Why the device's timing cannot be trusted, in words.
    """

    latency_secs: float
    spread: float
    problem: str | None


def judge(run_secs: Sequence[float], baseline_secs: float | None) -> Verdict:
    """Judge a device by its reference kernel.

    Parameters
    ----------
    run_secs : sequence of float
        At least two runs, in seconds.
    baseline_secs : float or None
        The latency of a run when all was well, on the same device and environment.
    """
    latency_secs = latency(run_secs)
    lower, _, upper = quantiles(run_secs, n=4, method="inclusive")
    spread = (upper - lower) / latency_secs
    drift = 0.0 if baseline_secs is None else latency_secs / baseline_secs - 1
    problem = None
    if abs(drift) > DRIFT_LIMIT:
        problem = (
            f"the reference kernel takes {abs(drift):.1%} {'longer' if drift > 0 else 'less'} than "
            f"its baseline ({latency_secs * 1e3:.3g} ms, {(baseline_secs or 0) * 1e3:.3g} ms); "
            f"{DRIFT_LIMIT:.0%} is allowed"
        )
    elif spread > SPREAD_LIMIT:
        problem = (
            f"the runs of the reference kernel lie {spread:.1%} apart; "
            f"{SPREAD_LIMIT:.0%} is allowed"
        )
    return Verdict(latency_secs=latency_secs, spread=spread, problem=problem)
