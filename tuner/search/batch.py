"""Choosing a batch from a population: what to exploit, what to explore, and what is too alike."""

from collections.abc import Sequence
from itertools import cycle
from typing import Protocol, TypeVar

import numpy as np

from tuner.search.sites import Point

PATTERN = ("greedy", "greedy", "noisy", "local", "greedy", "noisy", "greedy", "random")
"""Who chooses next, over and over.

``greedy`` takes the highest score, ``noisy`` the highest after noise was added (a sample of what
the scores might be, in the manner of Thompson), ``local`` the best that is one step from the
incumbent, ``random`` anything.
"""
NOISE = 0.5
"""Standard deviation of the noise over that of the population's scores."""
APART = 2
"""Greedy and noisy choices differ from those of their batch in so many decisions, if possible."""


class Scored(Protocol):
    """What is chosen from."""

    @property
    def point(self) -> Point | None:
        """Where it lies in the space."""
        ...

    @property
    def score(self) -> float:
        """How fast the model believes it to be."""
        ...


T = TypeVar("T", bound=Scored)


def choose(
    population: Sequence[T], count: int, *, incumbent: Point | None, random: np.random.Generator
) -> list[T]:
    """Choose up to `count` members, the most promising ones first.

    Parameters
    ----------
    population : sequence
        Each with a point and a score.
    incumbent : Point or None
        The fastest that was measured.
    random : numpy.random.Generator
        Advanced by the call.
    """
    scores = np.array([member.score for member in population])
    noise = random.normal(0.0, NOISE, len(scores)) * (scores.std() if len(scores) else 0.0)
    greedy = np.argsort(-scores, kind="stable")
    local = [place for place in greedy if distance(population[place].point, incumbent) == 1]
    queues: dict[str, list[int]] = {
        "greedy": list(map(int, greedy)),
        "noisy": list(map(int, np.argsort(-(scores + noise), kind="stable"))),
        "local": list(map(int, local)),
        "random": list(map(int, random.permutation(len(scores)))),
    }
    chosen: list[int] = []
    near = np.zeros(len(population), dtype=np.bool_)
    for name in cycle(PATTERN):
        if len(chosen) == min(count, len(population)):
            break
        left = [place for place in queues[name] if place not in chosen]
        apart = left if name == "local" else [place for place in left if not near[place]]
        if left:
            chosen.append((apart or left)[0])
            point = population[chosen[-1]].point
            near |= [distance(member.point, point) < APART for member in population]
    return [population[place] for place in chosen]


def distance(one: Point | None, other: Point | None) -> float:
    """Count the decisions in which two points differ; infinite for different designs."""
    if one is None or other is None or one.design != other.design:
        return float("inf")
    return float(sum(a != b for a, b in zip(one.decisions, other.decisions, strict=True)))
