"""Clusters, unknown grades and the four intervals: formulas by hand, exact distributions, simulated truth."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from scipy.special import betaincinv

from qtarget.evaluate.confidence import average_at_k, intervals, paired_difference, paired_seeds
from qtarget.evaluate.confidence.intervals import beta_binomial, bootstrap, squared_error, student_t_interval
from qtarget.evaluate.confidence.resampling import bootstrap_means, sign_flip_p, two_level_means
from qtarget.evaluate.confidence.units import by_unit


def grades(counts, k):
    return [[i < count for i in range(k)] for count in counts]


def test_samples_of_unknown_grade_are_not_right_and_are_counted():
    estimate = average_at_k([[1, None, 0, 1], [None, None, 1, 1]], 4)
    assert (estimate.mean, estimate.unknown) == (0.5, 3)
    assert estimate.mean_if_unknown_were_right == pytest.approx(7 / 8)
    assert average_at_k(grades([1, 2], 4), 4).unknown == 0


def test_the_complaint_names_the_questions_that_lack_samples_and_counts_the_rest():
    correct = [[True] * (3 if i % 2 else 4) for i in range(12)]
    with pytest.raises(
        ValueError, match=r"'q1' has 3 samples; Question 'q3'.*exactly 4 of each of the 12 questions"
    ) as e:
        average_at_k(correct, 4, names=[f"q{i}" for i in range(12)])
    assert "So do 3 more" in str(e.value)


def test_units_values_keep_the_mean_and_give_the_cluster_robust_error():
    rng = np.random.default_rng(0)
    shares, units = rng.random(11), list("aaabbcddddd")
    residuals = shares - shares.mean()
    meat = sum(residuals[[u == name for u in units]].sum() ** 2 for name in "abcd")
    values = by_unit(shares, units)
    assert values.mean() == pytest.approx(shares.mean())
    assert squared_error(values) == pytest.approx(4 / 3 * meat / 11**2)


def test_questions_asked_twice_are_no_more_evidence_than_once():
    counts = [0, 4, 3, 1, 2, 4, 4, 0]
    once = intervals(grades(counts, 4), 4)
    twice = intervals(grades(counts * 2, 4), 4, units=list("abcdefgh") * 2)
    assert twice.student == pytest.approx(once.student)
    a, b = grades(counts, 4), grades(counts[::-1], 4)
    doubled = paired_difference(a * 2, b * 2, 4, units=list("abcdefgh") * 2)
    assert (doubled.low, doubled.high) == pytest.approx(
        (paired_difference(a, b, 4).low, paired_difference(a, b, 4).high)
    )
    assert average_at_k(grades(counts * 2, 4), 4, units=list("abcdefgh") * 2).n_units == 8


def test_clusters_take_memory_in_proportion_to_the_questions():
    """A table of questions by clusters would take 144 MB."""
    units = [str(question // 2) for question in range(6_000)]
    tracemalloc.start()
    by_unit(np.zeros((3, 6_000)), units)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_units_must_be_one_a_question():
    with pytest.raises(ValueError, match="2 units were given for 3 questions"):
        average_at_k(grades([1, 2, 3], 4), 4, units=["a", "b"])


def test_with_one_sample_a_question_the_credible_interval_is_that_of_a_share():
    for right in (0, 3, 30):
        exact = betaincinv(1 + right, 31 - right, [0.025, 0.975])
        assert beta_binomial([1] * right + [0] * (30 - right), [1] * 30) == pytest.approx(exact, abs=2e-3)


def test_at_the_edge_the_interval_has_width_and_elsewhere_the_credible_one_is_left_out():
    for count in (0, 16):
        found = intervals(grades([count] * 30, 16), 16)
        assert found.student is None
        assert found.bootstrap is None
        assert found.beta_binomial is not None
        assert 0.01 < found.beta_binomial.high - found.beta_binomial.low < 0.12
    assert intervals(grades([8, 3, 5] * 10, 16), 16).beta_binomial is None
    assert intervals(grades([1, 0, 0] * 10, 16), 16).beta_binomial is not None


@pytest.mark.parametrize(("n", "a", "b"), [(30, 0.1, 1.9), (30, 0.3, 9.7), (40, 1.96, 0.04)])
def test_the_credible_interval_covers_the_truth_at_the_edges(n, a, b):
    rng, truth, covered = np.random.default_rng(5), a / (a + b), 0
    for _ in range(150):
        low, high = beta_binomial(rng.binomial(16, rng.beta(a, b, n)).tolist(), [16] * n)
        covered += low <= truth <= high
    assert covered / 150 >= 0.9


def test_the_plain_intervals_cover_the_truth_where_questions_are_many_and_varied():
    rng, covered = np.random.default_rng(6), np.zeros(2)
    for i in range(200):
        values = rng.binomial(16, rng.beta(1, 1.5, 200)) / 16
        found = student_t_interval(values), bootstrap(values, draws=1000, seed=i)
        covered += [f is not None and f.low <= 0.4 <= f.high for f in found]
    assert (covered / 200 >= 0.92).all()


def test_drawing_counts_is_drawing_questions():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 5, 30) / 4
    by_index = values[rng.integers(0, 30, (10_000, 30))].mean(1)
    by_counts = bootstrap_means(values)
    quantiles = [0.025, 0.25, 0.5, 0.75, 0.975]
    assert np.quantile(by_counts, quantiles) == pytest.approx(np.quantile(by_index, quantiles), abs=0.01)
    assert (bootstrap_means(values, seed=3) == bootstrap_means(values, seed=3)).all()
    assert (bootstrap_means(values, seed=3) != bootstrap_means(values, seed=4)).any()


def test_seeds_and_questions_are_both_resampled():
    rng = np.random.default_rng(2)
    table = rng.normal(0, 1, (4, 1)) + rng.normal(0, 1, (1, 25)) + rng.normal(0, 1, (4, 25))
    seeds, questions = rng.integers(0, 4, (20_000, 4)), rng.integers(0, 25, (20_000, 25))
    by_index = table[seeds[:, :, None], questions[:, None, :]].mean((1, 2))
    drawn = two_level_means(table)
    assert drawn.mean() == pytest.approx(table.mean(), abs=0.03)
    assert drawn.std() == pytest.approx(by_index.std(), rel=0.03)


def test_the_sign_flips_agree_with_all_of_them():
    totals = np.array([0.5, 0.25, -0.25, 0.75, 0.5, 0.0, 0.25, 0.5])
    sums = [
        abs(sum(s * t for s, t in zip(signs, totals, strict=True))) for signs in itertools.product((1, -1), repeat=8)
    ]
    exact = np.mean(np.array(sums) >= totals.sum() - 1e-12)
    assert sign_flip_p(totals) == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000))
    assert sign_flip_p(np.zeros(5)) == 1


def test_sign_flips_call_no_difference_clear_one_time_in_twenty():
    rng = np.random.default_rng(4)
    ps = [sign_flip_p((rng.binomial(16, 0.5, 40) - rng.binomial(16, 0.5, 40)) / 16, 500, i) for i in range(400)]
    assert 0.02 <= np.mean(np.array(ps) < 0.05) <= 0.08


def test_clusters_count_once_in_a_comparison_over_seeds():
    rng = np.random.default_rng(3)
    a, b = rng.random((3, 10)), rng.random((3, 10))
    twice = paired_seeds(np.tile(a, 2), np.tile(b, 2), units=[str(i) for i in range(10)] * 2)
    once = paired_seeds(a, b)
    assert (twice.low, twice.high, twice.p) == pytest.approx((once.low, once.high, once.p))
