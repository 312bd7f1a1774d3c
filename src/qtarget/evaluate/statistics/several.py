"""Many arms, and many samples: Holm's adjustment, and pass@k."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qtarget.evaluate.statistics.average import Grades, shares_of
from qtarget.evaluate.statistics.intervals import Interval, bootstrap
from qtarget.evaluate.statistics.units import by_unit


@dataclass(frozen=True)
class PassAtK:
    """Chance that one of k samples is right, with a bootstrap interval over questions.

    Attributes:
        low, high: None where all questions are alike and resampling them shows nothing.
        n: samples of each question that it was estimated from.
    """

    mean: float
    low: float | None
    high: float | None
    k: int
    n: int
    n_questions: int


def pass_at_k(correct: Grades, n: int, k: int, *, units: Sequence[str] | None = None, seed: int = 0) -> PassAtK:
    """The mean over questions of ``1 - C(n - c, k) / C(n, k)``, c of n samples being right.

    The unbiased estimate of Chen et al. (2021, arXiv 2107.03374). Samples without a grade count as not right.

    Raises:
        ValueError: k above n, or a question whose number of samples is not n.
    """
    if not 1 <= k <= n:
        raise ValueError(
            f"pass@{k} was asked of {n} samples a question; write a k from 1 to {n}, or draw more samples."
        )
    right = np.rint(shares_of(correct, n) * n).astype(int)
    chance = np.array([1 - math.comb(n - c, k) / math.comb(n, k) for c in range(n + 1)])[right]
    found: Interval | None = bootstrap(by_unit(chance, units), seed=seed)
    low, high = found or (None, None)
    return PassAtK(float(chance.mean()), low, high, k, n, len(right))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p values: call those below 0.05 clear, and the chance that any of these calls is wrong is 0.05.

    Holm (1979). For several arms against one baseline; in the order given.
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted
