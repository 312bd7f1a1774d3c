"""pass@k, Holm, suites, and what a larger evaluation would show."""

import itertools
import math

import numpy as np
import pytest

from qtarget.evaluate.confidence import (
    average_at_k,
    holm,
    paired_comparison,
    paired_seeds,
    paired_suite,
    pass_at_k,
    power_of,
    variance_split,
)
from qtarget.evaluate.confidence.seeds import question_part


def grades(counts, k):
    return [[i < count for i in range(k)] for count in counts]


def draw(rng, levels, k=16):
    return rng.binomial(k, levels) / k


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(k):
    correct = grades([0, 1, 3, 5], 5)
    by_subsets = [np.mean([any(chosen) for chosen in itertools.combinations(row, k)]) for row in correct]
    found = pass_at_k(correct, 5, k)
    assert found.mean == pytest.approx(np.mean(by_subsets))
    assert found.low is not None
    assert found.low <= found.mean <= found.high


def test_pass_at_one_is_the_average_and_no_width_is_not_certainty():
    correct = grades([1, 4, 2], 4)
    assert pass_at_k(correct, 4, 1).mean == pytest.approx(average_at_k(correct, 4).mean)
    assert pass_at_k(grades([4, 4], 4), 4, 2).low is None


def test_pass_at_more_than_was_drawn_is_refused():
    with pytest.raises(ValueError, match=r"pass@8 was asked of 4 samples"):
        pass_at_k(grades([1], 4), 4, 8)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1, 1]
    assert holm([]) == []


def test_a_suite_averages_sets_not_questions():
    rng = np.random.default_rng(0)
    a = [rng.random((1, 30)), rng.random((1, 500))]
    b = [np.zeros((1, 30)), np.zeros((1, 500))]
    alone = [paired_seeds(x, y) for x, y in zip(a, b, strict=True)]
    suite = paired_suite(a, b)
    assert suite.mean == pytest.approx((alone[0].mean + alone[1].mean) / 2)
    assert suite.error == pytest.approx(math.hypot(alone[0].error, alone[1].error) / 2)
    assert suite.n_questions == 530


def test_a_suites_seeds_are_the_same_for_all_its_sets():
    seed = np.array([[0.1], [0.0], [-0.1], [0.2], [-0.2]])
    a, b = [0.5 + seed + np.zeros((5, 400))] * 3, [0.5 + np.zeros((5, 400))] * 3
    one, suite = paired_seeds(a[0], b[0]), paired_suite(a, b)
    assert suite.error**2 * suite.seed_share == pytest.approx(one.error**2 * one.seed_share)  # not a third of it


def test_a_suites_interval_covers_the_truth():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(300):
        a, b = [], []
        seed = rng.normal(0, 0.03, (5, 1))
        for n in (30, 60, 200):
            levels = rng.uniform(0.2, 0.7, n)
            a.append(draw(rng, levels + 0.05 + seed))
            b.append(draw(rng, np.tile(levels, (5, 1))))
        found = paired_suite(a, b)
        covered += found.low <= 0.05 <= found.high
    assert covered / 300 >= 0.92


def test_suites_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="a has 1 sets and b has 2"):
        paired_suite([[[1.0]]], [[[1.0]], [[1.0]]])
    with pytest.raises(ValueError, match=r"The sets have \[1, 2\] seeds"):
        paired_suite([[[1.0]], [[1.0], [0.0]]], [[[1.0]], [[1.0], [0.0]]])


def test_the_variance_splits_into_what_samples_and_what_questions_add():
    rng = np.random.default_rng(2)
    splits = [variance_split([[u < p for u in rng.random(8)] for p in rng.beta(2, 2, 100)], 8) for _ in range(100)]
    within = np.mean([s.within for s in splits if s])
    between = np.mean([s.between for s in splits if s])
    assert within == pytest.approx(0.2 / 8 / 100, rel=0.03)  # E p(1 - p) = 0.2 of a Beta(2, 2), whose variance is 0.05
    assert between == pytest.approx(0.05 / 100, rel=0.05)


def test_more_samples_cannot_help_where_questions_are_all_or_nothing():
    split = variance_split(grades([4, 0, 4, 0, 0], 4), 4)
    assert split is not None
    assert (split.within, split.more_samples) == (0, 0)
    halves = variance_split(grades([2] * 3 + [1, 3], 4), 4)
    assert halves is not None
    assert halves.between == 0
    assert halves.more_samples > 0.1
    assert variance_split(grades([1, 0], 1), 1) is None


def test_as_many_questions_as_power_asks_for_see_the_gain_four_times_in_five():
    rng, gain = np.random.default_rng(3), 0.04

    def arms(n):
        levels = rng.beta(1, 1, n) * 0.9
        return draw(rng, levels + gain)[None], draw(rng, levels)[None]

    needed = power_of(*arms(2000), gain).questions
    assert needed is not None
    seen = np.mean([paired_seeds(*arms(needed)).low > 0 for _ in range(400)])
    assert 0.74 <= seen <= 0.87


def test_the_smallest_difference_is_seen_four_times_in_five():
    rng, seen = np.random.default_rng(4), 0
    levels = rng.beta(1, 1, 120) * 0.8
    smallest = np.mean([power_of(draw(rng, levels)[None], draw(rng, levels)[None]).smallest for _ in range(20)])
    for _ in range(400):
        levels = rng.beta(1, 1, 120) * 0.8
        seen += paired_seeds(draw(rng, levels + smallest)[None], draw(rng, levels)[None]).low > 0
    assert 0.72 <= seen / 400 <= 0.88


@pytest.mark.parametrize(("n_seeds", "spread"), [(3, 0.0), (5, 0.0), (5, 0.03)])
def test_with_several_seeds_the_smallest_difference_is_seen_four_times_in_five(n_seeds, spread):
    rng, seen = np.random.default_rng([n_seeds, int(100 * spread)]), 0

    def arms(gain):
        levels, seeds = rng.uniform(0.25, 0.6, 80), rng.normal(0, spread, (2, n_seeds, 1))
        return draw(rng, levels + gain + seeds[0]), draw(rng, levels + seeds[1])

    smallest = np.mean([power_of(*arms(0.0)).smallest for _ in range(60)])
    for _ in range(300):
        seen += paired_seeds(*arms(smallest)).low > 0
    assert 0.72 <= seen / 300 <= 0.97


def test_questions_that_a_gain_needs_are_those_with_which_several_seeds_see_it():
    rng, gain = np.random.default_rng(9), 0.03

    def arms(n):
        levels = rng.uniform(0.2, 0.7, n)
        return draw(rng, np.tile(levels + gain, (5, 1))), draw(rng, np.tile(levels, (5, 1)))

    needed = power_of(*arms(1000), gain).questions
    assert needed is not None
    seen = np.mean([paired_seeds(*arms(needed)).low > 0 for _ in range(300)])
    assert 0.72 <= seen <= 0.97


def test_where_seeds_hide_a_gain_no_number_of_questions_shows_it():
    rng = np.random.default_rng(5)
    levels, seed = rng.uniform(0.3, 0.6, 200), np.array([[0.1], [-0.1], [0.05], [-0.05], [0.0]])
    a, b = draw(rng, levels + seed), draw(rng, np.tile(levels, (5, 1)))
    assert power_of(a, b, 0.02).questions is None
    assert power_of(a, b, 0.3).questions is not None


def test_a_comparison_says_the_same_three_ways():
    rng = np.random.default_rng(6)
    levels = rng.beta(1, 1, 150) * 0.8
    a, b = draw(rng, levels + 0.08)[None], draw(rng, levels)[None]
    found = paired_comparison(a, b)
    assert found.difference.is_clear
    assert found.sign_flip_p < 0.001
    assert found.bootstrap.low > 0
    padded, plain = math.sqrt(question_part(a - b).squared), (a - b).std(ddof=1) / math.sqrt(150)
    assert found.bootstrap.high - found.bootstrap.low == pytest.approx(2 * 1.96 * plain, rel=0.05)
    assert padded > plain
    over_seeds = paired_comparison(np.repeat(a, 3, 0), np.repeat(b, 3, 0))
    assert over_seeds.bootstrap.high - over_seeds.bootstrap.low == pytest.approx(2 * 1.96 * plain, rel=0.05)
