"""What a search strategy is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schedules.records import Candidate, MeasureResult


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate with what came of it."""

    candidate: Candidate
    result: MeasureResult


class SearchStrategy(Protocol):
    """Proposes candidates and learns from their results.

    An instance serves one task, is owned by one thread, and knows neither measurers nor services.
    Its state follows from the constructor's arguments, its seed and what it was told.
    """

    def ask(self, count: int) -> list[Candidate]:
        """Propose up to `count` candidates that were neither proposed nor told before.

        Fewer mean that the space has no more to offer; an empty list ends the search.
        """
        ...

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from results, of own candidates or of others' (earlier jobs, imports)."""
        ...
