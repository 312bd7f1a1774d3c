"""Intervals and p values from parts of an error: one is Student's t, several hold the truth whatever their sizes."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from qtarget.evaluate.confidence.error_parts import ErrorPart, half_width, standard_error, two_sided_p


def test_one_part_is_students_t():
    part = [ErrorPart(0.04, 7)]
    assert half_width(part) == pytest.approx(student.ppf(0.975, 7) * 0.2)
    assert two_sided_p(0.5, part) == pytest.approx(2 * student.sf(2.5, 7))
    assert standard_error([*part, ErrorPart(0.05, 2)]) == pytest.approx(0.3)


@pytest.mark.parametrize("mean", [0.0, 1e-9, 0.1, -0.3, 2.0, 50.0])
def test_p_is_the_level_at_which_the_interval_ends_at_zero(mean):
    parts = [ErrorPart(0.01, 1), ErrorPart(0.02, 31), ErrorPart(0.005, 121)]
    p = two_sided_p(mean, parts)
    assert half_width(parts, 1 - p / 2) == pytest.approx(abs(mean), rel=1e-6, abs=1e-12)
    assert (p < 0.05) == (half_width(parts) < abs(mean))


def test_p_of_what_is_far_beyond_doubt_is_a_number():
    assert 0 <= two_sided_p(1.0, [ErrorPart(1e-12, 10**6), ErrorPart(1e-12, 10**7)]) < 1e-200
    assert not math.isnan(two_sided_p(1.0, [ErrorPart(0.0, 1), ErrorPart(1e-9, 10**7)]))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("degrees", [(1, 11), (1, 121), (2, 31), (4, 121), (9, 31)])
def test_the_interval_holds_the_truth_whatever_the_parts_sizes(share, degrees):
    rng, n = np.random.default_rng(0), 4000
    means = rng.normal(0, 1, n)
    drawn = [true * rng.chisquare(of, n) / of for true, of in zip((share, 1 - share), degrees, strict=True)]
    squared = sum(student.ppf(0.975, of) ** 2 * part for of, part in zip(degrees, drawn, strict=True))
    held = np.mean(means**2 <= squared)
    assert held >= 0.94
    one = [ErrorPart(float(part[0]), of) for of, part in zip(degrees, drawn, strict=True)]
    assert half_width(one) == pytest.approx(math.sqrt(squared[0]))
