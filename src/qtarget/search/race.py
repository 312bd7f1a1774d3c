"""Which arms a rung of the race drops: its statistics, and nothing else.

**What is raced.** Every arm of a rung answers the same questions (or has the same held-out rows), so arms are compared
by pairs: the mean over questions of one arm's score minus another's, with `paired_seeds`' Student's t, whose variance
has two pseudo-questions added. After each rung the arm of the highest mean, the *leader*, is compared with every other.

**What is controlled.** With R rungs planned and n arms beside the leader, an arm is dropped where

    R · Holm_n(p) < 0.05        p two-sided, of the paired difference to the leader

and where its difference is on the lower side, which it always is. So the chance that an arm which is truly as good as
any other on that rung (its model's expected score, over questions like these, is the highest) is ever dropped is
below 0.05, over all arms and all rungs together. For: the leader is not known before, so "the best arm b is dropped"
is the union, over rungs and over the n arms that may lead, of "m is significantly above b". Each of these is a one-
sided error, of chance 0.05 / (2 R n) where b has the smallest p. Their union has at most 0.05 / 2, half of what is
allowed: the other half pays for Holm's steps, in which b meets a milder threshold once arms with smaller p have been
dropped; these arms no longer can be leaders, so the union is over as many fewer. An arm that was dropped takes its
hypotheses at later rungs with it, which is Holm's step too: n counts the arms that are still there. tests/search
simulates it.

**What is not.** An arm is judged by what it is at that rung. One that is slow at first and ahead at the end may be
dropped early, rightly by this rule. And all runs of a race share one training seed, so the chance is over questions and
samples, not over trainings: the confirmation, on fresh seeds and on questions that the race never read, is for that.
The leader's own mean is the highest of several and so too high on average; no estimate is taken from the race.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from qtarget.evaluate.confidence import holm, paired_seeds

RACE_LEVEL = 0.05
RacedArm = TypeVar("RacedArm", bound=Hashable)


@dataclass(frozen=True)
class Standing:
    """An arm after a rung, beside its leader.

    Attributes:
        mean: of its scores; the higher, the better.
        difference, low, high: its mean minus the leader's, with the interval of this pair alone, at 95 %; zeros of the
            leader itself.
        p: adjusted for arms and rungs; 1 of the leader.
    """

    mean: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def is_dropped(self) -> bool:
        return self.p < RACE_LEVEL


def standings(
    scores: Mapping[RacedArm, Sequence[float]], rungs: int, units: Sequence[str] | None = None
) -> dict[RacedArm, Standing]:
    """Every arm after a rung, in the order given.

    Args:
        scores: by arm, a number for each question or row, in one order; any scale.
        rungs: of the whole race.
        units: the cluster of every question; None where each is its own.

    Raises:
        ValueError: no arm, or arms of different numbers of scores.
    """
    means = {arm: float(np.mean(values)) for arm, values in scores.items()}
    leader = max(means, key=lambda arm: means[arm])
    others = [arm for arm in scores if arm != leader]
    found = {arm: scaled_difference([scores[arm]], [scores[leader]], units) for arm in others}
    adjusted = [min(1.0, rungs * p) for p in holm([found[arm].p for arm in others])]
    of_pairs = {arm: found[arm].standing(means[arm], p) for arm, p in zip(others, adjusted, strict=True)}
    return {arm: of_pairs.get(arm) or Standing(means[arm], 0.0, 0.0, 0.0, 1.0) for arm in scores}


@dataclass(frozen=True)
class ScoreDifference:
    """A paired difference with its 95 % interval, on the scores' own scale."""

    mean: float
    low: float
    high: float
    p: float

    def standing(self, mean: float, p: float) -> Standing:
        return Standing(mean, self.mean, self.low, self.high, p)

    @property
    def is_clear(self) -> bool:
        return self.low > 0 or self.high < 0


def scaled_difference(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], units: Sequence[str] | None = None
) -> ScoreDifference:
    """`paired_seeds`, which is for scores between 0 and 1, of ``[S][Q]`` scores of any scale, as losses are.

    Where no question differs, its pseudo-questions differ by the whole scale: by 1, or by the largest score there is.
    """
    tables = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    scale = max(1.0, *(float(np.abs(table).max(initial=0.0)) for table in tables))
    found = paired_seeds(tables[0] / scale, tables[1] / scale, units=units)
    return ScoreDifference(scale * found.mean, scale * found.low, scale * found.high, found.p)
