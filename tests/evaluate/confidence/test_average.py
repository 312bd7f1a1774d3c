"""The figures of the table against sums done by hand, published quantiles and simulated truth."""

import json
import math
import random
from dataclasses import asdict
from statistics import NormalDist, fmean, stdev

import pytest

from qtarget.evaluate import average_at_k, paired_difference
from qtarget.evaluate.confidence.quantiles import student_quantile


def grades(shares, k):
    return [[i < share for i in range(k)] for share in shares]


def draw(rng, n, k, a, b):
    """n questions of beta-distributed difficulty, k samples each."""
    return [[rng.random() < p for _ in range(k)] for p in (rng.betavariate(a, b) for _ in range(n))]


def test_the_mean_is_over_all_samples():
    estimate = average_at_k(grades([0, 1, 4, 3], 4), k=4)
    assert estimate.mean == pytest.approx(8 / 16)
    assert (estimate.n_questions, estimate.k) == (4, 4)


def test_many_varied_questions_give_the_classical_interval_by_question():
    rng = random.Random(0)
    correct = draw(rng, 4000, 16, 1, 1)
    shares = [fmean(map(float, row)) for row in correct]
    half_width = NormalDist().inv_cdf(0.975) * stdev(shares) / math.sqrt(4000)
    estimate = average_at_k(correct, k=16)
    assert estimate.high - estimate.low == pytest.approx(2 * half_width, rel=0.01)


def test_a_question_counts_once_however_often_it_is_sampled():
    once = average_at_k(grades([0, 1] * 20, 1), k=1)
    sixteen_alike = average_at_k(grades([0, 16] * 20, 16), k=16)
    assert (sixteen_alike.low, sixteen_alike.high) == pytest.approx((once.low, once.high), abs=0.003)


def test_the_samples_are_all_the_evidence_there_is():
    estimate = average_at_k(grades([8] * 1000, 16), k=16)  # no spread at all between the questions
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 16000), rel=0.01)


@pytest.mark.parametrize(("share", "n"), [(0, 10), (1, 10), (0, 1), (1, 120)])
def test_all_wrong_and_all_right_keep_wilsons_doubt(share, n):
    estimate = average_at_k(grades([16 * share] * n, 16), k=16)
    quantile = student_quantile(0.975, n + 1)
    trials = n + 1  # the two pseudo-questions, less the degree of freedom of their variance
    doubt = quantile**2 / (trials + quantile**2)
    far_end = estimate.high if share == 0 else 1 - estimate.low
    near_end = estimate.low if share == 0 else 1 - estimate.high
    assert far_end == pytest.approx(doubt)
    assert near_end == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "a", "b"), [(30, 0.09, 0.51), (30, 0.03, 0.57), (120, 1.98, 0.02), (40, 0.3, 0.3)])
def test_the_interval_covers_the_truth_as_often_as_it_says(n, a, b):
    rng, truth = random.Random(1), a / (a + b)
    estimates = [average_at_k(draw(rng, n, 16, a, b), k=16) for _ in range(300)]
    covered = sum(e.low <= truth <= e.high for e in estimates) / 300
    assert covered >= 0.92


@pytest.mark.failure_case(13)
@pytest.mark.parametrize(("samples", "k"), [(15, 16), (17, 16), (0, 16)])
def test_a_question_without_exactly_k_samples_is_refused(samples, k):
    correct = [[True] * k, [True] * samples]
    with pytest.raises(ValueError, match=f"Question 2 has {samples} samples and Average@{k} needs exactly {k}"):
        average_at_k(correct, k)
    with pytest.raises(ValueError, match="Question 2"):
        paired_difference([[True] * k] * 2, correct, k)


def test_no_question_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        average_at_k([], 16)


def test_pairing_removes_the_difficulty_of_the_questions():
    a, b = grades([16, 9, 2] * 20, 16), grades([14, 7, 0] * 20, 16)
    difference = paired_difference(a, b, 16)
    assert difference.mean == pytest.approx(2 / 16)
    assert difference.is_clear
    assert average_at_k(a, 16).low < average_at_k(b, 16).high  # the arms' own intervals overlap
    reverse = paired_difference(b, a, 16)
    assert (reverse.mean, reverse.low, reverse.high) == pytest.approx(
        (-difference.mean, -difference.high, -difference.low)
    )


def test_the_paired_interval_is_students_on_the_padded_differences():
    a, b = grades([3, 4, 0, 2, 4], 4), grades([1, 4, 1, 0, 2], 4)
    padded = [0.5, 0, -0.25, 0.5, 0.5, 0.5, -0.5]
    half_width = 2.446912 * stdev(padded) / math.sqrt(7)  # t, 97.5 %, 6 degrees of freedom
    difference = paired_difference(a, b, 4)
    assert difference.mean == pytest.approx(1.25 / 5)
    assert difference.high - difference.mean == pytest.approx(half_width, rel=1e-3)
    assert difference.mean - difference.low == pytest.approx(half_width, rel=1e-3)


def test_equal_arms_are_not_equal_beyond_doubt():
    arm = grades([16] * 50, 16)
    difference = paired_difference(arm, arm, 16)
    assert difference.low < 0 < difference.high
    assert not difference.is_clear


def test_the_paired_interval_covers_the_truth_as_often_as_it_says():
    rng, covered = random.Random(2), 0
    for _ in range(300):
        levels = [rng.betavariate(1, 2) for _ in range(40)]
        a = [[rng.random() < p for _ in range(16)] for p in levels]
        b = [[rng.random() < 0.8 * p for _ in range(16)] for p in levels]
        difference = paired_difference(a, b, 16)
        covered += difference.low <= 0.2 / 3 <= difference.high
    assert covered / 300 >= 0.92


def test_arms_on_different_questions_are_refused():
    with pytest.raises(ValueError, match="Arm A has 2 questions and arm B has 3"):
        paired_difference(grades([1, 1], 4), grades([1, 1, 1], 4), 4)


@pytest.mark.parametrize(
    ("degrees", "published"),
    [(2, 4.302653), (3, 3.182446), (4, 2.776445), (10, 2.228139), (30, 2.042272), (120, 1.979930)],
)
def test_students_quantiles_match_the_published_table(degrees, published):
    assert student_quantile(0.975, degrees) == pytest.approx(published, rel=2e-3)
    assert student_quantile(0.5, degrees) == pytest.approx(0, abs=1e-12)


def test_estimates_are_plain_json():
    a, b = grades([3, 4], 4), grades([1, 4], 4)
    for result in (average_at_k(a, 4), paired_difference(a, b, 4)):
        assert type(result)(**json.loads(json.dumps(asdict(result)))) == result
