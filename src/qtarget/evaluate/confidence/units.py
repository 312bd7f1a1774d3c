"""Clusters of questions that belong together: the cluster, not the question, is the unit drawn at random."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def by_unit(values: ArrayLike, units: Sequence[str] | None) -> Array:
    """``[..., Q]`` values of questions to ``[..., C]`` values of clusters with the same mean.

    A cluster's value is the mean over all questions plus its own questions' deviations, added up and scaled by
    C/Q. So the variance of these values over C is the cluster-robust squared error of the mean (Liang and Zeger
    1986; Miller 2024) with its factor C/(C-1), however unequal the clusters are, and every statistic of single
    questions holds for clusters too. Without `units` every question is its own.
    """
    values = np.asarray(values, dtype=np.float64)
    if units is None:
        return values
    mean = values.mean(-1, keepdims=True)
    totals = unit_totals(values - mean, units)
    return mean + totals * totals.shape[-1] / values.shape[-1]


def unit_totals(values: ArrayLike, units: Sequence[str] | None) -> Array:
    """``[..., Q]`` values of questions, added up within each cluster: ``[..., C]``."""
    values = np.asarray(values, dtype=np.float64)
    if units is None:
        return values
    if len(units) != values.shape[-1]:
        raise ValueError(
            f"{len(units)} units were given for {values.shape[-1]} questions; pass units=[question.unit, ...], one a "
            "question."
        )
    names, place = np.unique(np.asarray(units), return_inverse=True)
    rows = values.reshape(-1, values.shape[-1])
    totals = np.array([np.bincount(place, row, len(names)) for row in rows], dtype=np.float64)
    return totals.reshape(*values.shape[:-1], len(names))
