"""Quantiles of Student's t, by scipy."""

from scipy.special import stdtrit

TWO_SIDED_95 = 0.975


def student_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t with `degrees` degrees of freedom, which need not be whole."""
    return float(stdtrit(degrees, probability))
