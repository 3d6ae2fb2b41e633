"""Sets of CPU cores, in the notation of ``taskset`` and of systemd: ``0-3,8``."""

from collections.abc import Collection

from schedules.errors import InputError

_LARGEST_CORE = 2**16


def parse_cores(text: str) -> frozenset[int]:
    """Read a list of core numbers and ranges.

    Raises
    ------
    InputError
        It is empty or not such a list.
    """
    cores: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise InputError(f"{text!r} is not a list of cores; write it like 0-3,8")
        start, end = int(first), int(last or first)
        if start > end:
            raise InputError(f"the range {part.strip()!r} of cores ends before it begins")
        if end > _LARGEST_CORE:
            raise InputError(f"there is no core {end}")
        cores.update(range(start, end + 1))
    return frozenset(cores)


def format_cores(cores: Collection[int]) -> str:
    """Write core numbers as the shortest list of numbers and ranges, in order."""
    runs: list[tuple[int, int]] = []
    for core in sorted(cores):
        if runs and core == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], core)
        else:
            runs.append((core, core))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
