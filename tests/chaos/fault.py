"""What a fault is, and what came of injecting it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a number of faults.

    Attributes
    ----------
    faults : int
        How many were injected.
    lost : int
        Facts that the outside ledger has and the database has not.
    duplicated : int
        Facts that the database has more than once, or that were made more often than they may be.
    orphaned : int
        What stayed stuck: a lease, batch, job, process or device that never became free.
    notes : str
        What a reader of the table should know.
    worst_secs, limit_secs : float or None
        The longest recovery seen, and how long it may take; None where no time is guaranteed.
    """

    faults: int
    lost: int = 0
    duplicated: int = 0
    orphaned: int = 0
    notes: str = ""
    worst_secs: float | None = None
    limit_secs: float | None = None

    @property
    def in_time(self) -> bool:
        """Whether the recovery kept to its limit."""
        if self.worst_secs is None or self.limit_secs is None:
            return True
        return self.worst_secs <= self.limit_secs

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, duplicated, orphaned or late."""
        return not (self.lost or self.duplicated or self.orphaned) and self.in_time


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault.

    Attributes
    ----------
    name : str
        In words that a table can show, unique.
    run : callable
        Injects so many faults, using an empty directory of its own, and leaves no process behind.
    full, shrunk : int
        How many faults ``make chaos`` and ``make test`` inject; 0 leaves it to ``make chaos``.
    databases : tuple of str
        ``sqlite``, ``postgresql``, both, or none where no database takes part.
    full_secs : float
        About how long the full run takes.
    """

    name: str
    run: Callable[[int, Path], Outcome]
    full: int
    shrunk: int
    databases: tuple[str, ...]
    full_secs: float
