"""Planning an evaluation: what more samples, questions or seeds would show."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from qtarget.evaluate.confidence.average import Grades, shares_of
from qtarget.evaluate.confidence.intervals import squared_error
from qtarget.evaluate.confidence.quantiles import TWO_SIDED_95, student_quantile
from qtarget.evaluate.confidence.seeds import SeedsDifference, Shares, paired_seeds, pseudo_difference, seed_differences
from qtarget.evaluate.confidence.units import Array, by_unit

POWER = 0.8
LARGEST = 10**7
"""Questions up to which their number is looked for."""


@dataclass(frozen=True)
class VarianceSplit:
    """Where the squared error of Average@k comes from.

    Attributes:
        within: from drawing k samples of each question, and no more.
        between: from asking these questions, and no others.
        more_samples: how much narrower either side of the 95 % interval could become by any number of samples.
    """

    within: float
    between: float
    more_samples: float


def variance_split(correct: Grades, k: int) -> VarianceSplit | None:
    """Split the squared error by question; None for one sample, or one question, which cannot be split.

    The noise of the samples is p(1 - p)/k of each question, without bias by k - 1; what is left of the spread of
    the questions' shares is their own.
    """
    shares = shares_of(correct, k)
    if k < 2 or len(shares) < 2:
        return None
    total = squared_error(shares)
    within = min(total, float((shares * (1 - shares)).mean() / (k - 1) / len(shares)))
    t = student_quantile(TWO_SIDED_95, len(shares) - 1)
    return VarianceSplit(within, total - within, t * (math.sqrt(total) - math.sqrt(total - within)))


@dataclass(frozen=True)
class Power:
    """What a paired comparison of this size can see, at 80 % power and 5 % error.

    Attributes:
        smallest: the smallest true difference that would be called clear four times in five.
        gain: the difference asked for.
        questions: how many would be needed to see it; None where the training seeds' own spread hides it, however
            many questions are asked.
    """

    smallest: float
    gain: float
    questions: int | None


def power_of(a: Shares, b: Shares, gain: float = 0.02, *, units: Sequence[str] | None = None) -> Power:
    """Power by the spread that was seen, as `paired_seeds` takes it, for other questions like these.

    With several seeds their number stays. The spread is an estimate itself: with 30 questions take the figures as
    an order of magnitude.
    """
    difference, values = paired_seeds(a, b, units=units), by_unit(seed_differences(a, b), units)
    smallest = _reach(difference.degrees) * difference.error
    return Power(smallest, gain, _questions(difference, values, gain))


def _reach(degrees: float) -> float:
    """The true difference, in standard errors, that is called clear with 80 % chance."""
    return student_quantile(TWO_SIDED_95, degrees) + student_quantile(POWER, degrees)


def _questions(difference: SeedsDifference, values: Array, gain: float) -> int | None:
    """The fewest questions with which `gain` is within reach, by bisection; None where no number suffices."""
    by_seed, units_per_question = difference.error**2 * difference.seed_share, values.shape[1] / difference.n_questions

    def sees(questions: int) -> bool:
        units = questions * units_per_question
        by_question = _question_error_of(values, units)
        total = by_seed + by_question
        freedom = by_seed**2 / max(difference.n_seeds - 1, 1) + by_question**2 / (units + 1)
        return _reach(total**2 / freedom) * math.sqrt(total) <= gain

    return bisect_left(range(LARGEST), True, lo=2, key=sees) if sees(LARGEST) else None


def _question_error_of(values: Array, units: float) -> float:
    """What `question_error` would be with so many units of the same spread."""
    variance = float(values.mean(0).var(ddof=1)) if values.shape[1] > 1 else 0.0
    return ((units - 1) * variance + 2 * pseudo_difference(values) ** 2) / ((units + 1) * (units + 2))
