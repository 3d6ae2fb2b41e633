"""Gates: what a version has to be better at than the one in use. Needs no XGBoost."""

from collections.abc import Mapping

LEAST_ROWS = 64
"""Fewer trials teach nothing that would be of use to another task."""

JUDGED = ("pairwise_accuracy", "top_8_recall")
"""The metrics that decide about a promotion."""

CHANCE: Mapping[str, float] = {"pairwise_accuracy": 0.5, "top_8_recall": 0.0}
"""What the first model has to be better than."""

Metrics = dict[str, float]


def failed_gates(candidate: Mapping[str, float], present: Mapping[str, float] | None) -> list[str]:
    """Say in words on which gates a version is not at least as good as the present one.

    Parameters
    ----------
    candidate, present : Mapping[str, float]
        From `judged`, on the same training set; None where there is no version yet. A metric that
        one of them lacks does not count.

    Returns
    -------
    list of str
        Empty if the version may be promoted: nowhere worse, and somewhere better.
    """
    pairs: dict[str, tuple[float, float]] = {}
    for name, value in candidate.items():
        metric = name.partition(".")[2]
        if metric in JUDGED:
            bar = CHANCE[metric] if present is None else present.get(name, value)
            pairs[name] = (value, bar)
    if not pairs:
        return ["nothing could be held out to judge it by: tune more shapes or operators"]
    worse = [
        f"{name} is {value:.3f} and has to be at least {bar:.3f}"
        for name, (value, bar) in sorted(pairs.items())
        if value < bar
    ]
    if not worse and all(value == bar for value, bar in pairs.values()):
        return ["it is better on no gate"]
    return worse
