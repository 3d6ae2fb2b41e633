"""Charts as SVG: where lines and marks lie. `templates/_chart.html` writes them.

Across, positions are shares of the plot's width in percent, so that a chart fills whatever width
the page has while text and marks keep their size; down they are pixels of a fixed height.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from service.dashboard import figures

HEIGHT = 220.0
"""Of a plot, in pixels."""
SPAN = 1000
"""Of the box in which lines are drawn; it is stretched to the plot's width."""
_PAD = 12.0
"""Pixels that stay free above and below what is plotted."""

_CLOCK_STEPS = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0)

Write = Callable[[float], str]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps values to places, by their logarithms or as they are.

    Attributes
    ----------
    low, high : float
        The values at the ends; low < high, and both positive for logarithms.
    begin, end : float
        The places of those.
    """

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies; those beyond an end lie on it."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.begin + (self.end - self.begin) * (value - low) / (high - low)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label of an axis and its grid line."""

    place: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve; `path` is SVG's, across from 0 to `SPAN`."""

    kind: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point; `record_id` is what a click shows."""

    kind: str
    across: float
    down: float
    tip: str
    record_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An upright bar, from its top to the bottom that `down` and `height` make."""

    kind: str
    across: float
    width: float
    down: float
    height: float
    tip: str


@dataclass(frozen=True, kw_only=True)
class Key:
    """A line of the legend; `shape` is ``line``, ``mark`` or ``bar``."""

    kind: str
    shape: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart.

    Attributes
    ----------
    chart_id : str
        Of its element.
    title : str
        Says what is shown.
    summary : str
        Says what is seen, for those who cannot see it.
    x_title, y_title : str
        What the axes are of.
    """

    chart_id: str
    title: str
    summary: str
    x_title: str
    y_title: str
    height: float = HEIGHT
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    bars: Sequence[Bar] = ()
    keys: Sequence[Key] = field(default=())


def across(low: float, high: float, *, log: bool = False) -> Scale:
    """Make the scale of an x axis, with a little room at both ends."""
    return _scale(low, high, 1.5, 98.5, log=log)


def down(low: float, high: float, *, height: float = HEIGHT, log: bool = False) -> Scale:
    """Make the scale of a y axis: large values are up."""
    return _scale(low, high, height - _PAD, _PAD, log=log)


def _scale(low: float, high: float, begin: float, end: float, *, log: bool) -> Scale:
    if log:
        low = max(low, 1e-12)
        high = max(high, low)
        if high / low < 1.2:
            low, high = low / 1.1, high * 1.1
    elif high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    return Scale(low=low, high=high, begin=begin, end=end, log=log)


def ticks(
    scale: Scale, write: Write, *, about: int = 5, whole: bool = False, clock: bool = False
) -> tuple[Tick, ...]:
    """Choose round values along a scale.

    Parameters
    ----------
    write : callable
        Writes a value as a label.
    about : int
        How many are wanted.
    whole : bool
        Whether only whole numbers make sense.
    clock : bool
        Whether values are seconds, of which 60 are round.
    """
    if scale.log:
        values = _log_values(scale, about)
    else:
        values = _round_values(scale, about, whole=whole, clock=clock)
    return tuple(Tick(place=round(scale.place(value), 2), label=write(value)) for value in values)


def _round_values(
    scale: Scale, about: int, *, whole: bool = False, clock: bool = False
) -> list[float]:
    rough = (scale.high - scale.low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5) if m * power >= 0.999 * rough), 10 * power)
    if clock and 10 < rough < _CLOCK_STEPS[-1]:
        step = next(one for one in _CLOCK_STEPS if one >= rough)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def _log_values(scale: Scale, about: int) -> list[float]:
    exponents = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [digit * 10.0**power for power in exponents for digit in digits]
        inside = [value for value in values if scale.low <= value <= scale.high]
        if len(inside) <= about + 1:
            break
    if len(inside) >= 2:
        return inside
    # Less than a factor of two: round values, as on a plain axis.
    return [value for value in _round_values(scale, about) if value > 0]


def steps(points: Iterable[tuple[float, float]], x: Scale, y: Scale, until: float) -> str:
    """Write the path of a curve that holds each value to the next, and the last to `until`."""
    path: list[str] = []
    for value, level in points:
        at, height = _stretched(x, value), round(y.place(level), 1)
        path.append(f"H{at}V{height}" if path else f"M{at} {height}")
    return "".join(path) + f"H{_stretched(x, until)}" if path else ""


def joined(points: Iterable[tuple[float, float]], x: Scale, y: Scale) -> str:
    """Write the path of a curve through points."""
    shown = [f"{_stretched(x, value)} {round(y.place(level), 1)}" for value, level in points]
    return "M" + "L".join(shown) if shown else ""


def level(value: float, y: Scale) -> str:
    """Write the path of a line across the plot."""
    return f"M0 {round(y.place(value), 1)}H{SPAN}"


def percent_across(x: Scale, value: float) -> float:
    """Return where a value lies, in percent of the width."""
    return round(x.place(value), 2)


def _stretched(x: Scale, value: float) -> float:
    return round(x.place(value) * SPAN / 100, 1)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a bar that shows shares of a whole; places in percent."""

    kind: str
    begin: float
    width: float
    label: str
    value: str


def shares(parts: Iterable[tuple[str, str, float]], write: Write) -> tuple[Segment, ...]:
    """Lay parts side by side.

    Parameters
    ----------
    parts : iterable of (kind, label, amount)
        Empty amounts take no room but keep their entry.
    """
    listed = list(parts)
    whole = sum(amount for _, _, amount in listed) or 1.0
    begin, segments = 0.0, []
    for kind, label, amount in listed:
        width = 100 * amount / whole
        segments.append(
            Segment(
                kind=kind,
                begin=round(begin, 2),
                width=round(width, 2),
                label=label,
                value=f"{write(amount)}, {figures.percent(amount / whole)}",
            )
        )
        begin += width
    return tuple(segments)
