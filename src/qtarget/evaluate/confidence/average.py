"""Average@k of one arm, with its 95 % interval by question."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qtarget.evaluate.confidence.intervals import Interval, beta_binomial, bootstrap, student_t_interval, wilson
from qtarget.evaluate.confidence.units import Array, by_unit, unit_totals

Grades = Sequence[Sequence[bool | int | None]]
"""``[Q][k]``: right, wrong, or None where the grader could not say."""
FEW, RARE = 100, 0.1
"""Below FEW questions, a mean below RARE (or above 1 - RARE) is at the edge."""
NAMED = 3
"""At most so many questions are named in an error message."""


@dataclass(frozen=True)
class Estimate:
    """A mean score between 0 and 1 with its 95 % interval.

    Attributes:
        unknown: samples without a grade; they count as not right.
        n_units: clusters of questions that the interval resamples; 0 where every question is its own.
    """

    mean: float
    low: float
    high: float
    n_questions: int
    k: int
    unknown: int = 0
    n_units: int = 0

    @property
    def mean_if_unknown_were_right(self) -> float:
        """What the mean could at most be."""
        return self.mean + self.unknown / (self.n_questions * self.k)


@dataclass(frozen=True)
class Intervals:
    """The same mean under four kinds of interval, to see how much hangs on the choice; `wilson` is `Estimate`'s.

    Attributes:
        student, bootstrap: None where they would have no width.
        beta_binomial: given at the edge only: see `at_the_edge`.
    """

    wilson: Interval
    student: Interval | None
    bootstrap: Interval | None
    beta_binomial: Interval | None


def average_at_k(
    correct: Grades, k: int, *, units: Sequence[str] | None = None, names: Sequence[str] | None = None
) -> Estimate:
    """Mean over questions of the share of right samples among exactly k, with a 95 % interval by question.

    The interval is Wilson's at an effective number of trials (`intervals.wilson`). It stays within [0, 1] and
    never has zero width. In simulations with beta-distributed questions (30 to 500 of them, means 0.05 to 0.999,
    k = 16) it covered the truth in 94.8 to 100 % of draws; the plain t interval by question fell to 76 %.

    Args:
        correct: ``[Q][k]`` grades, one row per question; None counts as not right, and is counted.
        k: how many samples every question must have.
        units: the cluster of every question, where some share a passage or are variants of one another.
        names: of the questions, for error messages about missing samples.

    Raises:
        ValueError: no question, or some whose number of samples is not k (missing samples are never counted as
            wrong, nor left out).
    """
    shares = shares_of(correct, k, names)
    low, high = wilson(by_unit(shares, units), len(shares) * k)
    clusters = 0 if units is None else len(set(units))
    return Estimate(float(shares.mean()), low, high, len(shares), k, unknown_in(correct), clusters)


def intervals(correct: Grades, k: int, *, units: Sequence[str] | None = None, seed: int = 0) -> Intervals:
    """Average@k under all four intervals; `seed` is the bootstrap's."""
    shares = shares_of(correct, k)
    values = by_unit(shares, units)
    at_edge = at_the_edge(float(shares.mean()), len(shares))
    right = np.rint(unit_totals(shares * k, units)).astype(int)
    drawn = np.rint(unit_totals(np.full(len(shares), k), units)).astype(int)
    return Intervals(
        wilson=wilson(values, len(shares) * k),
        student=student_t_interval(values),
        bootstrap=bootstrap(values, seed=seed),
        beta_binomial=beta_binomial(right.tolist(), drawn.tolist()) if at_edge else None,
    )


def at_the_edge(mean: float, n_questions: int) -> bool:
    """All right, all wrong, or few questions with a mean near either: where spread between questions misleads."""
    nearest = min(mean, 1 - mean)
    return nearest < 1e-12 or (n_questions < FEW and nearest < RARE)


def shares_of(correct: Grades, k: int, names: Sequence[str] | None = None) -> Array:
    """``[Q]``: right samples of every question over k.

    Raises:
        ValueError: no question, or some whose number of samples is not k.
    """
    if not correct:
        raise ValueError("No question was given; Average@k needs at least one. Pass correct=[[...k grades...], ...].")
    strange = [question for question, grades in enumerate(correct) if len(grades) != k]
    if strange:
        raise ValueError(_missing(correct, k, strange, names))
    return np.array([sum(grade == 1 for grade in grades) / k for grades in correct])


def unknown_in(correct: Grades) -> int:
    """Samples without a grade."""
    return sum(grade is None for grades in correct for grade in grades)


def _missing(correct: Grades, k: int, strange: Sequence[int], names: Sequence[str] | None) -> str:
    called = [f"Question {q + 1 if names is None else repr(names[q])} has {len(correct[q])} samples" for q in strange]
    more = f" So do {len(strange) - NAMED} more." if len(strange) > NAMED else ""
    lengths = {len(grades) for grades in correct}
    as_drawn = f", or write k={min(lengths)} for all" if len(lengths) == 1 else ""
    return (
        f"{'; '.join(called[:NAMED])} and Average@{k} needs exactly {k} of each of the {len(correct)} questions."
        f"{more} Missing samples are neither wrong nor left out: draw them (the same `qtarget eval` does){as_drawn}."
    )
