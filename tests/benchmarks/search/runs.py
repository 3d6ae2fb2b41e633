"""What `make bench-search` publishes: for each operator and seed a file of each kind.

Tables and curves are made of these files alone, so that a later run can add to those that stand
there. Each names the commit and the machine that it was measured with.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.benchmarks.report import origin

ALIKE = 0.02
"""Latencies that were measured together and differ by a smaller share are alike."""
FORGIVEN_TRIALS = 64
"""A search may fail so often before it has to know better."""


@dataclass(frozen=True, kw_only=True)
class Best:
    """A new fastest trial of a search.

    Attributes
    ----------
    trial : int
        Its number, from 1.
    wall_secs : float
        When it was measured, since the search began.
    latency_secs : float
        What it took when it was measured again.
    """

    trial: int
    wall_secs: float
    latency_secs: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """One search.

    Attributes
    ----------
    bests : tuple of Best
        Each faster than the one before.
    trials : int
        So many it had; fewer than it was given where its space ended.
    wall_secs : float
        What all of it took.
    searching_secs : float
        What of that was neither building nor measuring.
    """

    bests: tuple[Best, ...]
    trials: int
    wall_secs: float
    searching_secs: float

    @classmethod
    def measured_again(cls, run: Mapping[str, Any], secs: Mapping[str, float | None]) -> Self:
        """Make one of what a search gives, and what its incumbents took when measured again.

        Parameters
        ----------
        run : Mapping
            What `tests.benchmarks.search.arm` prints of a search.
        secs : Mapping of str to float or None
            By trace; None for what failed when it was measured again.
        """
        bests: list[Best] = []
        for trial, trace in run["incumbents"]:
            latency_secs = secs[trace]
            if latency_secs and not (bests and bests[-1].latency_secs <= latency_secs):
                wall_secs = run["wall_secs"][trial - 1]
                bests.append(Best(trial=trial, wall_secs=wall_secs, latency_secs=latency_secs))
        return cls(
            bests=tuple(bests),
            trials=len(run["wall_secs"]),
            wall_secs=run["wall_secs"][-1],
            searching_secs=run["searching_secs"],
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read one from plain data."""
        return cls(**{**data, "bests": tuple(Best(**best) for best in data["bests"])})

    @property
    def final_secs(self) -> float:
        """The latency of the fastest."""
        return self.bests[-1].latency_secs

    def after(self, trials: int) -> float | None:
        """Return the latency of the fastest of the first trials; None where none of them ran."""
        found = [best.latency_secs for best in self.bests if best.trial <= trials]
        return found[-1] if found else None

    def match(self, goal_secs: float) -> Best | None:
        """Return the first that is as fast as a goal, within `ALIKE`; None if none ever was."""
        alike_secs = (1 + ALIKE) * goal_secs
        return next((best for best in self.bests if best.latency_secs <= alike_secs), None)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a file holds.

    Attributes
    ----------
    origin : Mapping of str to str
        Commit, machine and date.
    """

    origin: Mapping[str, str] = field(default_factory=origin)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read one from plain data."""
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class Searches(Measured):
    """All searches of one operator with one seed.

    Attributes
    ----------
    runs : Mapping of str to Run
        By the search's name.
    corpus_trials : int
        So many trials the warm search's base has learnt from.
    long_trace : str or None
        Trace of the fastest of stock's long search, where there was one.
    """

    runs: Mapping[str, Run]
    corpus_trials: int
    long_trace: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read one from plain data."""
        runs = {name: Run.from_json(run) for name, run in data["runs"].items()}
        return cls(**{**data, "runs": runs})


@dataclass(frozen=True, kw_only=True)
class Told(Measured):
    """What is told of one operator with few trials or none, measured beside what many found.

    Attributes
    ----------
    secs : Mapping of str to float
        Latencies by where they come from.
    """

    secs: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class LateFailures(Measured):
    """How searches of one operator fare where a part of the space fails.

    Attributes
    ----------
    shares : Mapping of str to float
        By search: which share of the trials after the first `FORGIVEN_TRIALS` failed; that part of
        the space is ``samples``.
    """

    shares: Mapping[str, float]

    @classmethod
    def counted(cls, runs: Mapping[str, Mapping[str, Any]]) -> Self:
        """Count them, by search, in what `tests.benchmarks.search.arm` prints."""
        shares: dict[str, float] = {}
        for name, run in runs.items():
            late = len(run["wall_secs"]) - FORGIVEN_TRIALS
            shares["samples"] = run["failing_share"]
            if late > 0:
                shares[name] = sum(trial > FORGIVEN_TRIALS for trial in run["failed"]) / late
        return cls(shares=shares)


Outcome = TypeVar("Outcome", bound=Measured)

NAMES: Mapping[type[Measured], str] = {Searches: "searches", Told: "told", LateFailures: "failing"}
"""Of the kinds, in the names of their files."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that stands in a folder, by operator and seed."""

    searches: Mapping[tuple[str, int], Searches]
    told: Mapping[tuple[str, int], Told]
    failing: Mapping[tuple[str, int], LateFailures]


def keep(folder: Path, case: str, seed: int, outcome: Measured) -> None:
    """Write the file of an operator, a seed and a kind; it replaces an older one."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(outcome), default=list)
    path = folder / f"{case}-{seed}-{NAMES[type(outcome)]}.json"
    path.write_text(text + "\n", encoding="utf-8")


def read(folder: Path, cases: Sequence[str]) -> Found:
    """Read all that stands in a folder of these operators, in their order."""
    return Found(
        searches=_read(Searches, folder, cases),
        told=_read(Told, folder, cases),
        failing=_read(LateFailures, folder, cases),
    )


def _read(
    kind: type[Outcome], folder: Path, cases: Sequence[str]
) -> dict[tuple[str, int], Outcome]:
    return {
        (case, seed): kind.from_json(json.loads(path.read_text("utf-8")))
        for case in cases
        for seed, path in sorted(
            (int(path.stem.split("-")[1]), path)
            for path in folder.glob(f"{case}-*-{NAMES[kind]}.json")
        )
    }
