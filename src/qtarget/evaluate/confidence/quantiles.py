"""Quantiles and p values of Student's t, by scipy."""

from scipy.special import stdtr, stdtrit

TWO_SIDED_95 = 0.975


def student_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t with `degrees` degrees of freedom, which need not be whole."""
    return float(stdtrit(degrees, probability))


def two_sided_p(t: float, degrees: float) -> float:
    """Chance of a t at least as far from zero."""
    return float(2 * stdtr(degrees, -abs(t)))
