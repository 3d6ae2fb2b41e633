"""The best latency so far against trials, in characters."""

import math
from collections.abc import Sequence

from tuner.cli.output import seconds_text

_LEVELS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_LABEL = 9


def best_so_far(latencies: Sequence[float | None]) -> list[float | None]:
    """Return the smallest latency until each trial, None where there is none yet.

    Parameters
    ----------
    latencies : sequence of float or None
        Seconds by trial; None for one that failed or was given up.
    """
    best: float | None = None
    curve = []
    for secs in latencies:
        if secs is not None and (best is None or secs < best):
            best = secs
        curve.append(best)
    return curve


def plot(latencies: Sequence[float | None], *, width: int, height: int) -> list[str]:
    """Draw the best so far, on a logarithmic scale from the fastest to the slowest of the curve.

    Parameters
    ----------
    latencies : sequence of float or None
        Seconds by trial.
    width, height : int
        Characters of the drawing, with its labels and without the line of trials below.

    Returns
    -------
    list of str
        Lines from above; none where nothing was measured yet.
    """
    curve = best_so_far(latencies)
    known = [secs for secs in curve if secs is not None]
    if not known:
        return []
    low, high = math.log(known[-1]), math.log(known[0])
    columns = max(1, width - _LABEL - 2)
    drawn = []
    for column in range(min(columns, len(curve))):
        secs = curve[_last_of(column, min(columns, len(curve)), len(curve))]
        share = 0.0 if secs is None or high == low else (math.log(secs) - low) / (high - low)
        drawn.append(0 if secs is None else 1 + round(share * (len(_LEVELS) * height - 1)))
    lines = []
    for row in range(height - 1, -1, -1):
        label = {height - 1: seconds_text(known[0]), 0: seconds_text(known[-1])}.get(row, "")
        cells = "".join(_cell(level - row * len(_LEVELS)) for level in drawn)
        lines.append(f"{label:>{_LABEL}} |{cells}".rstrip())
    lines.append(f"{'trial':>{_LABEL}} 1{str(len(curve)).rjust(max(1, len(drawn) - 1))}")
    return lines


def _last_of(column: int, columns: int, count: int) -> int:
    """Return the last trial that a column stands for."""
    return (column + 1) * count // columns - 1


def _cell(level: int) -> str:
    if level <= 0:
        return " "
    return _LEVELS[min(level, len(_LEVELS)) - 1]
