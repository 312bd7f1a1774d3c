"""Seeds and questions as two levels: sums by hand, the one-seed case, and simulated truth."""

import json
from dataclasses import asdict
from functools import cache

import numpy as np
import pytest

from qtarget.evaluate import paired_difference
from qtarget.evaluate.confidence import SeedsDifference, paired_seeds
from qtarget.evaluate.confidence.quantiles import student_quantile

K = 16


def answers(rng, levels, seeds_by_question):
    return rng.binomial(K, np.clip(levels + seeds_by_question, 0, 1)) / K


def draw(rng, n_seeds, n_questions, gain, seed_spread):
    """Two methods whose seeds differ by `seed_spread` and whose questions are hard for both alike."""
    levels = rng.uniform(0.25, 0.55, n_questions)
    of_question = rng.normal(0, 0.05, n_questions)
    a = answers(rng, levels, gain + of_question + rng.normal(0, seed_spread, (n_seeds, 1)))
    return a, answers(rng, levels, rng.normal(0, seed_spread, (n_seeds, 1)))


@pytest.mark.parametrize("seed_spread", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_the_interval_covers_the_truth_as_often_as_it_says(n_seeds, seed_spread):
    rng, gain = np.random.default_rng(n_seeds), 0.1
    found = [paired_seeds(*draw(rng, n_seeds, 80, gain, seed_spread)) for _ in range(400)]
    covered = np.mean([f.low <= gain <= f.high for f in found])
    assert covered >= 0.92


def chances(rng, shape, beta, seed_spread):
    """Two arms' chances of being right, [seeds][questions]: in logits, the first is better by 0.4 on average."""
    chance = np.clip(rng.beta(*beta, shape[1]), 1e-6, 1 - 1e-6)
    level, gain = np.log(chance / (1 - chance)), 0.4 + rng.normal(0, 0.5, shape[1])
    of_arm = [level + gain, level]
    noise = [rng.normal(0, seed_spread, (shape[0], 1)) + rng.normal(0, 0.5, shape) for _ in of_arm]
    return [1 / (1 + np.exp(-logits - cells)) for logits, cells in zip(of_arm, noise, strict=True)]


def arms_of(rng, *world):
    return [rng.binomial(K, of_arm) / K for of_arm in chances(rng, *world)]


@cache
def true_difference(beta, seed_spread):
    one, other = chances(np.random.default_rng(0), (100, 8000), beta, seed_spread)
    return float((one - other).mean())


NEAR_ONE, NEAR_ZERO, ALL_LEVELS = (3, 0.15), (0.1, 1.9), (1, 1)


@pytest.mark.parametrize("beta", [NEAR_ONE, NEAR_ZERO, ALL_LEVELS])
@pytest.mark.parametrize("n_questions", [10, 30])
def test_more_seeds_of_one_population_do_not_widen_the_interval(beta, n_questions):
    rng, widths = np.random.default_rng(n_questions), []
    for _ in range(60):
        a, b = arms_of(rng, (10, n_questions), beta, 0.1)
        found = [paired_seeds(a[:n], b[:n]) for n in (2, 3, 5, 10)]
        widths.append([f.high - f.low for f in found])
    mean = np.mean(widths, axis=0)
    assert (np.diff(mean) < 0).all()


def test_the_same_trainings_twice_do_not_widen_the_interval():
    rng = np.random.default_rng(11)
    a, b = arms_of(rng, (3, 20), NEAR_ONE, 0.2)
    once, twice = paired_seeds(a, b), paired_seeds(np.tile(a, (2, 1)), np.tile(b, (2, 1)))
    assert twice.high - twice.low < once.high - once.low


@pytest.mark.parametrize("seed_spread", [0.0, 0.5])
@pytest.mark.parametrize("beta", [NEAR_ONE, NEAR_ZERO, ALL_LEVELS])
@pytest.mark.parametrize(("n_seeds", "n_questions"), [(2, 10), (2, 120), (3, 120), (10, 10), (10, 30)])
def test_the_interval_covers_the_truth_with_few_seeds_few_questions_and_at_the_edges(
    n_seeds, n_questions, beta, seed_spread
):
    rng = np.random.default_rng([n_seeds, n_questions])
    found = [paired_seeds(*arms_of(rng, (n_seeds, n_questions), beta, seed_spread)) for _ in range(300)]
    truth = true_difference(beta, seed_spread)
    assert np.mean([f.low <= truth <= f.high for f in found]) >= 0.92


def test_two_seeds_that_agree_by_chance_do_not_pass_for_a_known_spread():
    questions = np.random.default_rng(12).normal(0, 0.1, 200)
    table = 0.05 + questions + np.array([[0.02], [-0.02]])
    seeds_alone = student_quantile(0.975, 1) * 0.02
    found = paired_seeds(table, np.zeros_like(table))
    assert found.high - found.mean > seeds_alone


def test_no_gain_is_seldom_called_clear():
    rng = np.random.default_rng(7)
    found = [paired_seeds(*draw(rng, 5, 80, 0.0, 0.03)) for _ in range(400)]
    assert np.mean([f.is_clear for f in found]) <= 0.08
    assert all(f.is_clear == (f.p < 0.05) for f in found)


def test_a_gain_of_eight_points_is_usually_found_in_five_seeds():
    rng = np.random.default_rng(8)
    found = [paired_seeds(*draw(rng, 5, 120, 0.08, 0.02)) for _ in range(200)]
    assert np.mean([f.low > 0 for f in found]) >= 0.9


def test_seeds_that_disagree_widen_the_interval_where_questions_alone_would_not():
    rng = np.random.default_rng(9)
    a, b = draw(rng, 5, 200, 0.05, 0.1)
    over_both = paired_seeds(a, b)
    by_question = paired_seeds(a.mean(0, keepdims=True), b.mean(0, keepdims=True))
    assert over_both.high - over_both.low > 2 * (by_question.high - by_question.low)
    assert over_both.seed_share > 0.8


def test_the_squared_errors_of_seeds_and_of_padded_questions_add_up_each_with_its_own_t():
    a = [[0.52, 0.55, 0.50], [0.55, 0.50, 0.45]]
    by_seed, by_question = [0.07 / 3, 0.0], [0.035, 0.025, -0.025]  # of a - 0.5
    seeds_part = np.var(by_seed, ddof=1) / 2
    pseudo = 0.05  # the most different question of either seed, on average
    questions_part = np.var([*by_question, pseudo, -pseudo], ddof=1) / 5
    half = np.sqrt(student_quantile(0.975, 1) ** 2 * seeds_part + student_quantile(0.975, 4) ** 2 * questions_part)
    found = paired_seeds(a, np.full((2, 3), 0.5))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    assert found.mean == pytest.approx(np.mean(by_seed))
    assert found.error == pytest.approx(np.sqrt(seeds_part + questions_part))
    assert found.seed_share == pytest.approx(seeds_part / found.error**2)


def test_one_seed_is_the_paired_difference_of_single_samples_and_says_that_it_is_evaluation_noise():
    right_a, right_b = [1, 1, 0, 1, 1], [0, 1, 1, 0, 1]
    one = paired_seeds([right_a], [right_b])
    by_question = paired_difference([[c] for c in right_a], [[c] for c in right_b], 1)
    assert (one.mean, one.low, one.high) == pytest.approx((by_question.mean, by_question.low, by_question.high))
    assert one.evaluation_noise_only
    assert not paired_seeds([[0.5, 1]] * 2, [[0.5, 0]] * 2).evaluation_noise_only


@pytest.mark.parametrize(("n", "level"), [(30, 0.5), (30, 0.05), (120, 0.95)])
def test_with_one_seed_the_interval_covers_the_truth_of_that_training(n, level):
    rng, covered, gain = np.random.default_rng(n), 0, 0.04
    for _ in range(400):
        levels = rng.beta(8 * level, 8 * (1 - level), n) * 0.95
        found = paired_seeds(answers(rng, levels, gain)[None], answers(rng, levels, 0)[None])
        covered += found.low <= gain <= found.high
    assert covered / 400 >= 0.92


def test_arms_that_never_differed_are_not_equal_beyond_doubt():
    arm = [[1.0] * 100] * 5
    same = paired_seeds(arm, arm)
    assert (same.mean, same.p) == (0, 1)
    assert same.low < -0.01 < 0.01 < same.high


def test_swapped_arms_turn_the_interval_round():
    rng = np.random.default_rng(3)
    a, b = draw(rng, 4, 30, 0.1, 0.02)
    forth, back = paired_seeds(a, b), paired_seeds(b, a)
    assert (back.mean, back.low, back.high, back.p) == pytest.approx((-forth.mean, -forth.high, -forth.low, forth.p))


@pytest.mark.parametrize(
    ("a", "b", "complaint"),
    [
        ([], [], "a has 0 seeds"),
        ([[]], [[]], r"a has 1 seeds with \[0\] questions"),
        ([[1, 0], [1]], [[1, 0], [1, 0]], r"a has 2 seeds with \[1, 2\] questions"),
        ([[1, 0]], [[1, 0], [1, 0]], "a has 1 seeds of 2 questions and b has 2 of 2"),
        ([[1, 0]], [[1, 0, 1]], "a has 1 seeds of 2 questions and b has 1 of 3"),
    ],
)
def test_arms_that_do_not_pair_are_refused(a, b, complaint):
    with pytest.raises(ValueError, match=complaint):
        paired_seeds(a, b)


def test_the_result_is_plain_json():
    found = paired_seeds([[1, 0.5]] * 2, [[0, 0.5]] * 2)
    assert SeedsDifference(**json.loads(json.dumps(asdict(found)))) == found
