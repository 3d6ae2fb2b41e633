"""The figures of `make bench-search`: ratios, tables and curves of what searches came to."""

from collections.abc import Callable
from statistics import fmean

from tests.benchmarks.report import Cell, Table, geomean
from tests.benchmarks.search.runs import NAMES, Found, Run, Searches

ARMS = ("warm", "own", "stock", "random")
LONG = "stock long"
EARLY = "warm early"
FAILING_ARMS = ("own", "stock")
ANSWERS = ("predicted", "nearest", "roofline", "valid")
MARKS = (8, 16, 32, 64, 128, 256)


def keys(found: Found) -> dict[str, object]:
    """Return the figures that sum everything up."""
    outcomes = found.searches.values()
    return {
        "trials_ratio_warm": _mean(found, lambda outcome: _trials_ratio(outcome, "warm")),
        "trials_ratio_cold": _mean(found, lambda outcome: _trials_ratio(outcome, "own")),
        "wall_ratio": _mean(found, lambda outcome: _wall_ratio(outcome, "warm")),
        "wall_ratio_cold": _mean(found, lambda outcome: _wall_ratio(outcome, "own")),
        "first8_vs_stock1000": _of_long(found, EARLY),
        "zero_vs_stock1000": _of_long(found, "predicted"),
        **{f"{name}_vs_stock1000": _of_long(found, name) for name in ANSWERS[1:]},
        "late_failures": _late_failures(found, "own"),
        "late_failures_stock": _late_failures(found, "stock"),
        "seeds": len({seed for _, seed in found.searches}),
        "never_matched_warm": sum(_match(outcome, "warm") is None for outcome in outcomes),
        "never_matched": sum(_match(outcome, "own") is None for outcome in outcomes),
        "speed_ratio_at_equal_trials": _mean(
            found, lambda outcome: _goal_secs(outcome) / outcome.runs["own"].final_secs
        ),
    }


def tables(found: Found, trials: int) -> list[Table]:
    """Return all tables; the searches had so many trials."""
    return [
        _winners(found),
        _answers(found),
        _failures(found),
        _regret(found, trials),
        _origins(found),
    ]


def curves(found: Found, case: str) -> dict[str, list[float]]:
    """Return each search's mean distance from the best that any of them found, trial by trial."""
    of_case = [outcome.runs for (name, _), outcome in found.searches.items() if name == case]
    best_secs = min(runs[arm].final_secs for runs in of_case for arm in ARMS)
    return {
        arm: [
            geomean([_after(runs[arm], trial) / best_secs for runs in of_case])
            for trial in range(1, 1 + min(runs[arm].trials for runs in of_case))
        ]
        for arm in ARMS
    }


def _mean(found: Found, figure: Callable[[Searches], float]) -> float:
    return geomean([figure(outcome) for outcome in found.searches.values()])


def _goal_secs(outcome: Searches) -> float:
    return outcome.runs["stock"].final_secs


def _match(outcome: Searches, arm: str) -> int | None:
    match = outcome.runs[arm].match(_goal_secs(outcome))
    return None if match is None else match.trial


def _trials_ratio(outcome: Searches, arm: str) -> float:
    everything = outcome.runs["stock"].trials
    # A search that ends with its space, and has not matched, has not won by its few trials.
    never = max(everything, outcome.runs[arm].trials)
    return everything / (_match(outcome, arm) or never)


def _wall_ratio(outcome: Searches, arm: str) -> float:
    run, everything = outcome.runs[arm], outcome.runs["stock"].wall_secs
    match = run.match(_goal_secs(outcome))
    return everything / (max(everything, run.wall_secs) if match is None else match.wall_secs)


def _of_long(found: Found, name: str) -> float | None:
    """Return the speed of what is named over that of stock's long search; None if it is nowhere."""
    ratios = [
        told.secs[LONG] / told.secs[name]
        for told in found.told.values()
        if {LONG, name} <= told.secs.keys()
    ]
    return geomean(ratios) if ratios else None


def _winners(found: Found) -> Table:
    rows: list[list[Cell]] = [
        [
            case,
            seed,
            *(1e3 * outcome.runs[arm].final_secs for arm in ARMS),
            *(_match(outcome, arm) or "never" for arm in ("warm", "own", "stock")),
            *(_searching_millisecs(outcome.runs[arm]) for arm in ("own", "stock")),
        ]
        for (case, seed), outcome in found.searches.items()
    ]
    return Table(
        title="Winners",
        columns=[
            "operator",
            "seed",
            *(f"{arm} ms" for arm in ARMS),
            "warm matched at",
            "own matched at",
            "stock at",
            "search ms/trial",
            "stock's",
        ],
        rows=rows,
    )


def _searching_millisecs(run: Run) -> float:
    """Return what the search took for each of its trials."""
    return 1e3 * run.searching_secs / run.trials


def _answers(found: Found) -> Table:
    names = (LONG, EARLY, *ANSWERS)
    return Table(
        title="Few trials and none (ms)",
        columns=["operator", "seed", *names],
        rows=[
            [case, seed, *(1e3 * told.secs[name] if name in told.secs else "-" for name in names)]
            for (case, seed), told in found.told.items()
        ],
    )


def _late_failures(found: Found, arm: str) -> float | None:
    """Return the mean share of late trials that failed; None where no space had failures."""
    shares = [late.shares[arm] for late in found.failing.values() if arm in late.shares]
    return fmean(shares) if shares else None


def _failures(found: Found) -> Table:
    names = ("samples", *FAILING_ARMS)
    return Table(
        title="Failures where a part of the space fails (share; of the searches' trials after 64)",
        columns=["operator", "seed", *names],
        rows=[
            [case, seed, *(late.shares.get(name, "-") for name in names)]
            for (case, seed), late in found.failing.items()
        ],
    )


def _regret(found: Found, trials: int) -> Table:
    marks = [mark for mark in MARKS if mark <= trials]
    rows: list[list[Cell]] = []
    for case in dict.fromkeys(case for case, _ in found.searches):
        # Where a space is small, a search ends before its trials do.
        rows += [
            [case, arm, *(curve[:mark][-1] for mark in marks)]
            for arm, curve in curves(found, case).items()
        ]
    return Table(
        title="Latency over the best known, after so many trials (geomean of the seeds)",
        columns=["operator", "search", *map(str, marks)],
        rows=rows,
    )


def _after(run: Run, trials: int) -> float:
    """Return the latency of the fastest so far; before there is one, of the first."""
    return run.after(trials) or run.bests[0].latency_secs


def _origins(found: Found) -> Table:
    measured: dict[tuple[str, ...], list[str]] = {}
    for kind in (found.searches, found.told, found.failing):
        for (case, seed), outcome in kind.items():
            commit, machine, date = (outcome.origin[name] for name in ("commit", "machine", "date"))
            what = (NAMES[type(outcome)], commit[:12], machine, date)
            measured.setdefault(what, []).append(f"{case} {seed}")
    return Table(
        title="Where they were measured",
        columns=["what", "commit", "machine", "date", "operators and seeds"],
        rows=[[*what, ", ".join(names)] for what, names in measured.items()],
    )
