"""pass@k: the chance that one of k samples is right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qtarget.evaluate.confidence.average import Grades, shares_of
from qtarget.evaluate.confidence.intervals import Interval, bootstrap
from qtarget.evaluate.confidence.units import by_unit


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
    interval: Interval | None = bootstrap(by_unit(chance, units), seed=seed)
    low, high = interval or (None, None)
    return PassAtK(float(chance.mean()), low, high, k, n, len(right))
