"""How numbers, times and names are written on pages: one way for each quantity."""

from datetime import UTC, datetime

from schedules.target import Target

NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""

_SECOND_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_FLOPS_UNITS = ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP"))
_BYTES_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def digits(value: float) -> str:
    """Write a number with three significant digits and without an exponent."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.9995 or value == 0:
        return f"{value:.2f}"
    return f"{value:.3g}"


def latency(secs: float | None) -> str:
    """Write the time of one call."""
    if secs is None:
        return NOTHING
    for size, unit in _SECOND_UNITS:
        # What is rounded up to the next unit is written in it.
        if secs >= 0.9995 * size:
            return f"{digits(secs / size)} {unit}"
    return f"{digits(secs / 1e-9)} ns"


def round_latency(secs: float) -> str:
    """Write a round time, as on an axis: without zeros that say nothing."""
    size, unit = next(
        ((size, unit) for size, unit in _SECOND_UNITS if secs >= 0.9995 * size), (1e-9, "ns")
    )
    return f"{secs / size:.4g} {unit}"


def interval(low_secs: float, high_secs: float) -> str:
    """Write an interval of latencies, the unit once where both ends have it."""
    low, high = latency(low_secs), latency(high_secs)
    number, unit = low.split()
    return f"{number if high.endswith(f' {unit}') else low} \N{EN DASH} {high}"


def duration(secs: float | None) -> str:
    """Write how long something took that people wait for."""
    if secs is None:
        return NOTHING
    if secs == 0:
        return "0 s"
    if secs < 9.95:
        return f"{secs:.1f} s"
    if secs < 59.5:
        return f"{secs:.0f} s"
    minutes, left = divmod(round(secs), 60)
    if minutes < 60:
        return f"{minutes} min {left:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def age(moment: datetime, now: datetime) -> str:
    """Write how long ago something was."""
    secs = (now - moment).total_seconds()
    if secs < 5:
        return "now"
    if secs < 60:
        return f"{secs:.0f} s ago"
    if secs < 3600:
        return f"{secs / 60:.0f} min ago"
    if secs < 48 * 3600:
        return f"{secs / 3600:.0f} h ago"
    return f"{secs / 86400:.0f} d ago"


def clock(moment: datetime | None) -> str:
    """Write a time to the second, in UTC."""
    return NOTHING if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def ratio(value: float | None) -> str:
    """Write a speed-up."""
    return NOTHING if value is None else f"{digits(value)}x"


def percent(share: float | None) -> str:
    """Write a share of one."""
    if share is None:
        return NOTHING
    return f"{100 * share:.1f} %" if 0 < abs(share) < 0.0995 else f"{100 * share:.0f} %"


def gflops(flops: float, secs: float | None) -> str:
    """Write arithmetic speed in GFLOP/s."""
    if not flops or not secs:
        return NOTHING
    return f"{digits(flops / secs / 1e9)} GFLOP/s"


def operations(flops: float) -> str:
    """Write a number of arithmetic operations."""
    return _scaled(flops, _FLOPS_UNITS)


def size(count: float) -> str:
    """Write a number of bytes."""
    return _scaled(count, _BYTES_UNITS)


def count(number: float) -> str:
    """Write a whole number with separators."""
    return f"{number:,.0f}"


def words(name: str) -> str:
    """Write the name of a kind or state as words."""
    return name.replace("_", " ")


def short(identity: str) -> str:
    """Shorten a hash, or an id that begins with a time."""
    return identity[:10] if len(identity) == 64 else identity[-8:]


def name_parts(name: str) -> tuple[str, str]:
    """Split a workload's name into its operator and the rest, which other names have not."""
    operator, bracket, arguments = name.partition("(")
    return operator, bracket + arguments


def target_name(target: Target) -> str:
    """Name a target in a few words."""
    attributes = target.attributes
    if target.kind == "cuda":
        return f"cuda {attributes.get('arch', '')}".strip()
    cores = target.cores
    return f"{attributes.get('mcpu', target.kind)}, {cores} core{'s' if cores > 1 else ''}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    for size, unit in units:
        if value >= 0.9995 * size:
            return f"{digits(value / size)} {unit}"
    return f"0 {units[-1][1]}"
