"""Whether candidates of one design work, told from the choices that made them.

The base model tells validity from features, for all tasks. Here a single search learns from its
own few failures, whose cause need not show in any feature: mostly a factor, or the product of two,
that is too large for something. So that is what is believed in: *threshold rules*, each of which
says that all fails from a number on, or up to it. How well a rule explains what was tried gives it
its weight, and what is not tried yet is judged by all rules together.
"""

from math import lgamma

import numpy as np
import numpy.typing as npt

Choices = npt.NDArray[np.float64]

NOTHING_FAILS = 0.3
"""Probability, before anything is tried, that no rule holds and nothing fails."""
EVERYTHING_FAILS = 0.05
"""Likewise that all fails."""
OF_PRODUCTS = 0.3
"""Share of all rules' probability that is given to those about the product of two choices."""
TOO_LARGE = 0.7
"""Likewise to those by which large numbers fail, not small ones."""
EXCEPTIONS, CONFORMING = 0.5, 20.0
"""Trials that a rule is taken to have been wrong and right about before anything is tried."""
_OPEN = -1.0
"""Stands for what is not decided yet; choices are not negative."""


def chances_of_working(
    tried: Choices, works: npt.NDArray[np.bool_], asked: Choices
) -> npt.NDArray[np.float64]:
    """Return how likely each of the asked candidates is to work.

    A mixture over rules in which each rule's rate of exceptions has a beta prior.
    Source: Hoeting et al., "Bayesian Model Averaging: A Tutorial", Statistical Science 14(4), 1999.

    Parameters
    ----------
    tried : numpy.ndarray
        float64, shape (n, c): the choices of candidates of which is known whether they work; not
        negative, NaN for one that was left open. n may be 0.
    works : numpy.ndarray
        bool, shape (n,).
    asked : numpy.ndarray
        float64, shape (m, c): the choices of those asked about.

    Returns
    -------
    numpy.ndarray
        float64, shape (m,).
    """
    number = len(tried)
    claims, priors = _rules(np.nan_to_num(np.concatenate([tried, asked]), nan=_OPEN))
    wrong = (claims[:number] != works[:, None]).sum(axis=0)
    evidence = np.array([_log_evidence(count, number) for count in range(number + 1)])
    beliefs = np.log(priors) + evidence[wrong]
    beliefs = np.exp(beliefs - beliefs.max())
    beliefs /= beliefs.sum()
    exceptional = (EXCEPTIONS + wrong) / (EXCEPTIONS + CONFORMING + number)
    chances: npt.NDArray[np.float64] = (
        np.where(claims[number:], 1 - exceptional, exceptional) @ beliefs
    )
    return chances


def _log_evidence(wrong: int, number: int) -> float:
    """Return how well a rule explains trials, up to what all rules have in common."""
    return lgamma(EXCEPTIONS + wrong) + lgamma(CONFORMING + number - wrong)


def _rules(choices: Choices) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return what each rule claims of each row, and how probable the rule is beforehand.

    Rules only differ by what they claim of these rows: there is one between each two numbers that
    follow each other.

    Returns
    -------
    claims : numpy.ndarray
        bool, shape (rows, rules): that the row works.
    priors : numpy.ndarray
        float64, shape (rules,).
    """
    numbers, weights = _numbers(choices)
    ordered = np.sort(numbers, axis=0)
    steps = (ordered[1:] != ordered[:-1]).T
    column, row = np.nonzero(steps)
    below = numbers[:, column] < ordered[row + 1, column]
    each = (1 - NOTHING_FAILS - EVERYTHING_FAILS) * weights[column] / steps.sum(axis=1)[column]
    all_work = np.ones((len(choices), 1), dtype=np.bool_)
    claims = np.concatenate([all_work, ~all_work, below, ~below], axis=1)
    constant = [NOTHING_FAILS, EVERYTHING_FAILS]
    return claims, np.concatenate([constant, each * TOO_LARGE, each * (1 - TOO_LARGE)])


def _numbers(choices: Choices) -> tuple[Choices, npt.NDArray[np.float64]]:
    """Return the choices that differ and the products of each two, and the weight of each."""
    differing = choices[:, (choices != choices[:1]).any(axis=0)]
    one, other = np.triu_indices(differing.shape[1], 1)
    products = differing[:, one] * differing[:, other]
    parts = [(differing, 1 - OF_PRODUCTS), (products, OF_PRODUCTS)]
    weights = [np.full(part.shape[1], share / max(part.shape[1], 1)) for part, share in parts]
    return np.concatenate([part for part, _ in parts], axis=1), np.concatenate(weights)
