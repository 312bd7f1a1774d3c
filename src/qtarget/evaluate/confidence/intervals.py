"""Four 95 % intervals of a mean score: Wilson, Student's t, bootstrap, Beta-binomial. The first three take the values
of the units (questions or clusters), as `by_unit` makes them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betaln

from qtarget.evaluate.confidence.quantiles import TWO_SIDED_95, student_quantile
from qtarget.evaluate.confidence.resampling import DRAWS, bootstrap_means
from qtarget.evaluate.confidence.units import Array

GRID_MEANS, GRID_CORRELATIONS = 401, 41


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def wilson(values: Array, samples: int) -> Interval:
    """Wilson's score interval at an effective number of independent trials, ``n_eff = m(1 - m) / SE²``.

    At most `samples` trials; SE² is taken with one wholly right and one wholly wrong pseudo-unit added, and the
    quantile is Student's with n + 1 degrees of freedom (Korn and Graubard 1998; Franco et al. 2019). The interval
    stays within [0, 1] and never has zero width.
    """
    padded = np.append(values, (0.0, 1.0))
    mean = padded.mean()
    trials = min(mean * (1 - mean) / squared_error(padded), samples)
    pull = student_quantile(TWO_SIDED_95, len(values) + 1) ** 2 / trials
    return _score_interval(float(values.mean()), pull)


def _score_interval(mean: float, pull: float) -> Interval:
    centre = (mean + pull / 2) / (1 + pull)
    half_width = math.sqrt(pull * mean * (1 - mean) + pull**2 / 4) / (1 + pull)
    return Interval(min(mean, max(0.0, centre - half_width)), max(mean, min(1.0, centre + half_width)))


def student_t_interval(values: Array) -> Interval | None:
    """The plain t interval by unit; None for a single unit, or where all are alike and it would have no width."""
    if len(values) < 2 or not np.ptp(values):
        return None
    half_width = student_quantile(TWO_SIDED_95, len(values) - 1) * math.sqrt(squared_error(values))
    return Interval(float(values.mean()) - half_width, float(values.mean()) + half_width)


def bootstrap(values: Array, draws: int = DRAWS, seed: int = 0) -> Interval | None:
    """Percentiles of resampled means; None for a single unit, or where all are alike and it would have no width."""
    return percentiles(bootstrap_means(values, draws, seed)) if len(values) > 1 and np.ptp(values) else None


def percentiles(means: Array) -> Interval:
    """The middle 95 % of resampled means."""
    low, high = np.quantile(means, (1 - TWO_SIDED_95, TWO_SIDED_95))
    return Interval(float(low), float(high))


def beta_binomial(right: Sequence[int], drawn: Sequence[int]) -> Interval:
    """Credible interval of the mean where units are Beta-distributed and samples binomial.

    Uniform priors on the mean and on the correlation of two samples of one unit, 1/(1 + a + b); the posterior on a
    grid (the Bayesian model of Bowyer et al. 2025, arXiv 2503.01747, with k samples a question). For few units, or
    scores at 0 or 1, where the others lean on a spread that was hardly seen.

    Args:
        right, drawn: right samples and all samples of every unit.
    """
    means = ((np.arange(GRID_MEANS) + 0.5) / GRID_MEANS)[:, None]
    correlations = (np.arange(GRID_CORRELATIONS) + 0.5) / GRID_CORRELATIONS
    strength = 1 / correlations - 1
    a, b = means * strength, (1 - means) * strength
    log_likelihood, prior = np.zeros_like(a), betaln(a, b)
    units, counts = np.unique(np.column_stack((right, drawn)), axis=0, return_counts=True)
    for (hits, trials), count in zip(units, counts, strict=True):
        log_likelihood += count * (betaln(a + hits, b + trials - hits) - prior)
    weight = np.exp(log_likelihood - log_likelihood.max()).sum(1)
    cumulative = np.cumsum(weight) / weight.sum()
    edges = (np.arange(GRID_MEANS) + 1) / GRID_MEANS
    low, high = np.interp((1 - TWO_SIDED_95, TWO_SIDED_95), np.append(0.0, cumulative), np.append(0.0, edges))
    return Interval(float(low), float(high))


def squared_error(values: Array) -> float:
    """Squared standard error of the mean of values: their variance over their number."""
    return float(values.var(ddof=1) / len(values))
