"""The statistics of the race, by simulation: how often the truly best arm is dropped, and whether bad arms are."""

import numpy as np
import pytest

from qtarget.evaluate.confidence import paired_seeds
from qtarget.search.race import RACE_LEVEL, scaled_difference, standings

RACES = 400
UPPER = RACE_LEVEL + 3 * (RACE_LEVEL * (1 - RACE_LEVEL) / RACES) ** 0.5
"""Three standard errors above the level: a rate above it is no chance."""
SHARP = {
    "all arms alike": (8, 3, 60, 4, [0.0] * 8),
    "one a little ahead": (8, 3, 60, 4, [0.02, *[0.0] * 7]),
    "two ahead of a bad field": (12, 3, 60, 4, [0.3, 0.3, *[-0.1] * 10]),
    "half alike, half far behind": (16, 4, 40, 4, [0.1] * 8 + [-0.35] * 8),
    "few questions, one sample": (6, 3, 12, 1, [0.0] * 6),
    "near the top": (8, 2, 50, 4, [0.45] * 8),
    "many arms": (40, 2, 60, 4, [0.0] * 40),
}
"""Arms, rungs, questions, samples of each, and the arms' lead in chance of a right answer; the first arm is best."""


def drawn(rng: np.random.Generator, questions: int, k: int, leads: list[float]) -> dict[str, np.ndarray]:
    """Shares of right samples: questions of their own difficulty, models of their own strengths on each."""
    difficulty = rng.beta(1.5, 1.5, questions)
    shares = {}
    for number, lead in enumerate(leads):
        chance = np.clip(difficulty + lead + rng.normal(0, 0.15, questions), 0, 1)
        shares[f"arm {number}"] = rng.binomial(k, chance) / k
    return shares


def raced(rng: np.random.Generator, rungs: int, questions: int, k: int, leads: list[float]) -> set[str]:
    """The arms that a race of so many rungs keeps."""
    alive = [f"arm {number}" for number in range(len(leads))]
    for _ in range(rungs):
        found = standings({name: drawn_ for name, drawn_ in _of(alive, drawn(rng, questions, k, leads))}, rungs)
        alive = [name for name in alive if not found[name].is_dropped]
    return set(alive)


def _of(alive: list[str], shares: dict[str, np.ndarray]) -> list[tuple[str, list[float]]]:
    return [(name, shares[name].tolist()) for name in alive]


@pytest.mark.parametrize("case", SHARP)
def test_the_best_arm_is_dropped_less_often_than_the_level(case: str):
    arms, rungs, questions, k, leads = SHARP[case]
    races = RACES if arms < 20 else RACES // 4
    rng = np.random.default_rng(0)
    lost = sum("arm 0" not in raced(rng, rungs, questions, k, leads) for _ in range(races))
    assert lost / races <= UPPER, f"{lost} of {races}"


def test_without_holm_and_rungs_it_would_be_dropped_too_often():
    """So the simulation above can fail."""
    rng, lost = np.random.default_rng(0), 0
    for _ in range(RACES):
        shares, is_lost = [drawn(rng, 60, 4, [0.0] * 8) for _ in range(3)], False
        for each in shares:
            leader = max(each, key=lambda name: each[name].mean())
            is_lost |= leader != "arm 0" and paired_seeds(each["arm 0"][None], each[leader][None]).p < RACE_LEVEL
        lost += is_lost
    assert lost / RACES > 2 * RACE_LEVEL


def test_arms_that_are_far_behind_are_dropped_at_the_first_rung():
    rng = np.random.default_rng(1)
    leads = [0.2, 0.2, -0.3, -0.3]
    kept = [raced(rng, 1, 60, 4, leads) for _ in range(50)]
    assert sum(each == {"arm 0", "arm 1"} for each in kept) >= 45


def test_ties_are_kept_and_the_leader_stands_at_zero():
    scores = {"a": [1.0, 0.5, 0.0, 1.0], "b": [1.0, 0.5, 0.0, 1.0], "c": [0.0, 0.5, 1.0, 1.0]}
    found = standings(scores, 3)
    assert list(found) == ["a", "b", "c"]
    assert [each.is_dropped for each in found.values()] == [False] * 3
    assert (found["a"].difference, found["a"].p, found["a"].mean) == (0.0, 1.0, 0.625)
    assert found["b"].low < 0 < found["b"].high


def test_one_arm_alone_leads():
    assert standings({"a": [0.0, 1.0]}, 2)["a"].p == 1.0


def test_losses_of_any_scale_are_compared_as_shares_are():
    rng = np.random.default_rng(2)
    a, b = rng.random(50), rng.random(50)
    small, large = scaled_difference([a], [b]), scaled_difference([100 * a], [100 * b])
    assert large.mean == pytest.approx(100 * small.mean)
    assert large.high == pytest.approx(100 * small.high)
    assert large.p == pytest.approx(small.p)
    assert scaled_difference([[-500.0] * 9], [[-1.0] * 9]).low < -400


def test_clusters_are_units():
    scores = {"a": [1.0] * 20, "b": [0.0] * 10 + [1.0] * 10}
    alone = standings(scores, 1)["b"]
    together = standings(scores, 1, ["one"] * 10 + [str(place) for place in range(10)])["b"]
    assert alone.is_dropped
    assert not together.is_dropped
