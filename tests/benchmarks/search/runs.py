"""What searches came to, as `make bench-search` publishes it: one file for each seed.

Tables and curves are made of these files alone, so that a later run can add seeds to those that
stand there. Each names the commit and the machine that it was measured with.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

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
class Outcome:
    """All searches of one operator with one seed.

    Attributes
    ----------
    runs : Mapping of str to Run
        By the search's name.
    told_secs : Mapping of str to float
        By where it comes from: latencies of what was told without any trial.
    late_failures : Mapping of str to float
        By search: which share of the trials after the first `FORGIVEN_TRIALS` failed, in a space of
        which a part does; that part is ``samples``.
    corpus_trials : int
        So many trials the warm search's base has learnt from.
    """

    runs: Mapping[str, Run]
    told_secs: Mapping[str, float]
    late_failures: Mapping[str, float]
    corpus_trials: int


@dataclass(frozen=True, kw_only=True)
class Seed:
    """All operators with one seed."""

    seed: int
    outcomes: Mapping[str, Outcome]
    commit: str
    machine: str
    date: str


def late_failures(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return how often late trials failed, by search, of what searches gave in a failing space."""
    found: dict[str, float] = {}
    for name, run in runs.items():
        late = len(run["wall_secs"]) - FORGIVEN_TRIALS
        found["samples"] = run["failing_share"]
        if late > 0:
            found[name] = sum(trial > FORGIVEN_TRIALS for trial in run["failed"]) / late
    return found


def keep(folder: Path, seed: int, outcomes: Mapping[str, Outcome]) -> None:
    """Write the file of a seed that was measured now; it replaces an older one."""
    found = Seed(seed=seed, outcomes=outcomes, **origin())
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(found), default=list)
    (folder / f"seed-{seed}.json").write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> list[Seed]:
    """Read all seeds that stand in a folder, in their order."""
    seeds = [_seed(json.loads(path.read_text("utf-8"))) for path in folder.glob("seed-*.json")]
    return sorted(seeds, key=lambda found: found.seed)


def _seed(data: Mapping[str, Any]) -> Seed:
    outcomes = {
        case: Outcome(
            runs={name: Run.from_json(run) for name, run in outcome["runs"].items()},
            told_secs=outcome["told_secs"],
            late_failures=outcome["late_failures"],
            corpus_trials=outcome["corpus_trials"],
        )
        for case, outcome in data["outcomes"].items()
    }
    return Seed(**{**data, "outcomes": outcomes})
