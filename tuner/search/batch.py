"""Choosing from a population: what to exploit, what to explore, and what is too alike."""

from collections.abc import Sequence
from itertools import cycle
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

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

LIKELY = 0.75
"""What works with at least this probability is likely to work."""
DOUBTED_SHARE = 0.25
"""Of a population, at most this may be unlikely to; it has to be tried now and then."""


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
    population: Sequence[T],
    count: int,
    *,
    incumbent: Point | None,
    chances: npt.NDArray[np.float32],
    random: np.random.Generator,
) -> list[T]:
    """Choose up to `count` members, the most promising ones first.

    What is unlikely to work comes after all else. Only ``random`` takes it now and then, the less
    likely it is the more seldom: where nobody looks, a wrong belief stays.

    Parameters
    ----------
    population : sequence
        Each with a point and a score.
    incumbent : Point or None
        The fastest that was measured.
    chances : numpy.ndarray
        float32, shape (len(population),): the probability that each member works.
    random : numpy.random.Generator
        Advanced by the call.
    """
    scores = np.array([member.score for member in population])
    noise = random.normal(0.0, NOISE, len(scores)) * (scores.std() if len(scores) else 0.0)
    unlikely = chances < LIKELY
    doubted = random.random(len(scores)) > chances**2
    greedy: list[int] = np.argsort(-scores, kind="stable").tolist()
    near_best = [distance(member.point, incumbent) == 1 for member in population]
    queues: dict[str, list[int]] = {
        "greedy": greedy,
        "noisy": np.argsort(-(scores + noise), kind="stable").tolist(),
        "local": [place for place in greedy if near_best[place] and not unlikely[place]],
        "random": random.permutation(len(scores)).tolist(),
    }
    chosen: list[int] = []
    near = np.zeros(len(population), dtype=np.bool_)
    for name in cycle(PATTERN):
        if len(chosen) == min(count, len(population)):
            break
        left = [place for place in queues[name] if place not in chosen]
        if left:
            avoided = (doubted if name == "random" else unlikely) * 2 + (near & (name != "local"))
            chosen.append(min(left, key=avoided.__getitem__))
            point = population[chosen[-1]].point
            near |= [distance(member.point, point) < APART for member in population]
    return [population[place] for place in chosen]


def keep(population: Sequence[T], count: int, *, chances: npt.NDArray[np.float32]) -> list[T]:
    """Keep up to `count` members, what is likely to work first and the most promising first.

    Otherwise what fails, but is believed fast, would drive all else out.

    Parameters
    ----------
    population : sequence
        Each with a score.
    chances : numpy.ndarray
        float32, shape (len(population),): the probability that each member works.
    """
    ranked = sorted(range(len(population)), key=lambda place: -population[place].score)
    likely = [population[place] for place in ranked if chances[place] >= LIKELY]
    doubted = [population[place] for place in ranked if chances[place] < LIKELY]
    room = max(count - len(likely), int(DOUBTED_SHARE * count))
    return [*likely[: count - min(room, len(doubted))], *doubted[:room]]


def distance(one: Point | None, other: Point | None) -> float:
    """Count the decisions in which two points differ; infinite for different designs."""
    if one is None or other is None or one.design != other.design:
        return float("inf")
    return float(sum(a != b for a, b in zip(one.decisions, other.decisions, strict=True)))
