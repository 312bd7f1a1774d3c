"""Planning an evaluation: what more samples, questions or seeds would show."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qtarget.evaluate.confidence.average import Grades, shares_of
from qtarget.evaluate.confidence.error_parts import ErrorPart, half_width
from qtarget.evaluate.confidence.intervals import squared_error
from qtarget.evaluate.confidence.quantiles import TWO_SIDED_95, student_quantile
from qtarget.evaluate.confidence.seeds import Shares, pseudo_difference, question_part, seed_differences, seed_part
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
    table = seed_differences(a, b)
    values = by_unit(table, units)
    return Power(
        _reach([*seed_part(values.mean(1)), question_part(values)]), gain, _questions(values, table.shape[1], gain)
    )


def _reach(parts: Sequence[ErrorPart]) -> float:
    """The true difference that is called clear with 80 % chance: half of the width, and the 80 % quantile besides."""
    return half_width(parts) + half_width(parts, POWER)


def _questions(values: Array, n_questions: int, gain: float) -> int | None:
    """The fewest questions with which `gain` is within reach, by bisection; None where no number suffices."""
    parts_with, units_per_question = _parts_with(values), values.shape[1] / n_questions

    def sees(questions: int) -> bool:
        return _reach(parts_with(questions * units_per_question)) <= gain

    return bisect_left(range(LARGEST), True, lo=2, key=sees) if sees(LARGEST) else None


def _parts_with(values: Array) -> Callable[[float], list[ErrorPart]]:
    """What `seed_part` and `question_part` would be with so many units of the same spread.

    Of the seeds' part, the noise of single cells shrinks with the units, and the seeds' own spread stays.
    """
    n_units = values.shape[1]
    variance = float(values.mean(0).var(ddof=1)) if n_units > 1 else 0.0
    pseudo, cells, of_these = pseudo_difference(values), _cell_error(values), seed_part(values.mean(1))

    def parts(units: float) -> list[ErrorPart]:
        of_questions = ((units - 1) * variance + 2 * pseudo**2) / ((units + 1) * (units + 2))
        of_seeds = [
            part._replace(squared=max(part.squared - cells, 0.0) + min(part.squared, cells) * n_units / units)
            for part in of_these
        ]
        return [*of_seeds, ErrorPart(of_questions, units + 1)]

    return parts


def _cell_error(values: Array) -> float:
    """Squared error of the mean of ``[S, C]`` by the noise of single cells: what neither seed nor unit explains."""
    n_seeds, n_units = values.shape
    if n_seeds == 1 or n_units == 1:
        return 0.0
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((n_seeds - 1) * (n_units - 1) * values.size))
