"""An interval from a squared error of several parts, each estimated with its own degrees of freedom."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtr, stdtrit

from qtarget.evaluate.confidence.quantiles import TWO_SIDED_95, student_quantile

_HALVINGS = 60
_SMALLEST = 1e-300


class ErrorPart(NamedTuple):
    """A part of the squared error of a mean: what the seeds add to it, or the questions."""

    squared: float
    degrees: float


def standard_error(parts: Sequence[ErrorPart]) -> float:
    """The root of the parts' sum."""
    return math.sqrt(sum(part.squared for part in parts))


def half_width(parts: Sequence[ErrorPart], probability: float = TWO_SIDED_95) -> float:
    """``sqrt(Σ t² s²)``: each part with the quantile of Student's t at its own degrees of freedom (Banerjee 1960).

    Such an interval holds the truth at least as often as it says, whatever the parts' true sizes. One t for the sum,
    at Satterthwaite's degrees of freedom, does not: where two seeds agree by chance, it takes their spread for small
    and its own degrees for many.
    """
    return math.sqrt(sum(student_quantile(probability, part.degrees) ** 2 * part.squared for part in parts))


def two_sided_p(mean: float, parts: Sequence[ErrorPart]) -> float:
    """The level at which the interval around `mean` ends at zero."""
    tails = [float(stdtr(part.degrees, -abs(mean) / standard_error(parts))) for part in parts]
    low, high = math.log(max(min(tails), _SMALLEST)), math.log(max(*tails, _SMALLEST))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reaches = sum(stdtrit(part.degrees, math.exp(middle)) ** 2 * part.squared for part in parts) >= mean**2
        low, high = (middle, high) if reaches else (low, middle)
    return min(1.0, 2 * math.exp(high))
