"""The difference of two methods over several training seeds and many questions, both taken as drawn at random."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qtarget.evaluate.confidence.intervals import squared_error
from qtarget.evaluate.confidence.quantiles import TWO_SIDED_95, student_quantile, two_sided_p
from qtarget.evaluate.confidence.units import Array, by_unit

Shares = Sequence[Sequence[float]] | Array
"""``[S][Q]``: the share of right samples of question q after training with seed s."""


@dataclass(frozen=True)
class SeedsDifference:
    """How much method A scores above method B (between -1 and 1), with its 95 % interval.

    Attributes:
        p: two-sided, for no difference; below 0.05 exactly where the interval leaves out zero (before the interval
            is cut to [-1, 1]).
        error: standard error of the mean.
        degrees: of freedom of the t distribution; few of them say that the seeds decide the width.
        seed_share: of the squared error, what comes from the seeds. Near 1, more questions cannot help; near 0,
            more seeds cannot.
    """

    mean: float
    low: float
    high: float
    p: float
    n_seeds: int
    n_questions: int
    error: float
    degrees: float
    seed_share: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    @property
    def evaluation_noise_only(self) -> bool:
        """One training seed: the interval says what other questions would change, and nothing of another training."""
        return self.n_seeds == 1


def paired_seeds(a: Shares, b: Shares, *, units: Sequence[str] | None = None) -> SeedsDifference:
    """Mean of A's shares minus B's over seeds and questions, with a 95 % interval for other seeds and questions.

    ``a[s][q]`` is the share of right samples of question q after training with seed s. The seeds of the two
    methods are paired by place, and all seeds answer the same questions. Both are random effects that cross:
    the squared error is that of the seeds' means plus that of the questions' means, each taken from its own
    spread, and Student's t has Satterthwaite's degrees of freedom (1946). Their sum counts the noise of single
    cells twice, which the exact estimate would subtract again; left in, it makes up for how badly five seeds
    know their own spread. The questions' spread is taken with two pseudo-questions added, as different as the
    most different question of any seed, one in favour of each side, so the width is never zero.

    In simulations with 3 to 10 seeds and 40 to 300 questions of 16 samples, shares near a half or near 1, and no
    spread between seeds or much of it, 93 to 100 % of intervals held the truth (`benchmarks/coverage.py`). The
    bootstrap over five seeds and the questions fell to 82 %, intervals by question alone to 20 %. Two seeds are
    too few: 90 %. One seed gives an interval by question alone, of evaluation noise only; `paired_difference` is
    the same with pseudo-questions that only one arm gets right, and so wider.

    Args:
        a, b: ``[S][Q]`` shares.
        units: the cluster of every question, where some belong together.

    Raises:
        ValueError: no seed, no question, rows of unequal length, or arms of different shape.
    """
    return _mean_of([seed_differences(a, b)], [units])


def paired_suite(
    a: Sequence[Shares], b: Sequence[Shares], units: Sequence[Sequence[str] | None] | None = None
) -> SeedsDifference:
    """The mean over m sets of questions of each set's difference, every set counting alike: ``a[m][s][q]``.

    The questions of different sets are independent, so their squared errors add up over m²; the training seeds are
    the same for all sets, so their spread is that of a seed's mean over the sets.

    Raises:
        ValueError: no set, sets of different numbers of seeds, or what `paired_seeds` refuses.
    """
    if not a or len(a) != len(b):
        raise ValueError(f"a has {len(a)} sets and b has {len(b)}; pass the same sets for both, at least one.")
    tables = [seed_differences(first, second) for first, second in zip(a, b, strict=True)]
    if len({len(table) for table in tables}) > 1:
        raise ValueError(
            f"The sets have {[len(table) for table in tables]} seeds; a suite needs every set at every seed. Evaluate "
            "the missing ones, or compare the sets one by one."
        )
    return _mean_of(tables, units or [None] * len(tables))


def seed_differences(a: Shares, b: Shares) -> Array:
    """A minus B, ``[S, Q]``. Raises ValueError for arms that do not pair by seed and question."""
    table_a, table_b = _table(a, "a"), _table(b, "b")
    if table_a.shape != table_b.shape:
        raise ValueError(
            f"a has {table_a.shape[0]} seeds of {table_a.shape[1]} questions and b has {table_b.shape[0]} of "
            f"{table_b.shape[1]}; pair them: the same seeds and questions in both, in the same order."
        )
    return table_a - table_b


def _mean_of(tables: Sequence[Array], units: Sequence[Sequence[str] | None]) -> SeedsDifference:
    by_unit_of = [by_unit(table, of) for table, of in zip(tables, units, strict=True)]
    seed_means, n_seeds = np.mean([values.mean(1) for values in by_unit_of], axis=0), len(tables[0])
    by_seed = squared_error(seed_means) if n_seeds > 1 else 0.0
    by_question = [question_error(values) / len(tables) ** 2 for values in by_unit_of]
    terms = [(by_seed, max(n_seeds - 1, 1))]
    terms += [(part, values.shape[1] + 1) for part, values in zip(by_question, by_unit_of, strict=True)]
    n_questions = sum(table.shape[1] for table in tables)
    return _difference(float(seed_means.mean()), terms, n_seeds, n_questions)


def _difference(mean: float, terms: Sequence[tuple[float, int]], n_seeds: int, n_questions: int) -> SeedsDifference:
    """The result from (squared error, degrees of freedom) of each part, the seeds' first."""
    total = sum(part for part, _ in terms)
    degrees = total**2 / sum(part**2 / freedom for part, freedom in terms)
    error = math.sqrt(total)
    half_width = student_quantile(TWO_SIDED_95, degrees) * error
    return SeedsDifference(
        mean=mean,
        low=max(-1.0, mean - half_width),
        high=min(1.0, mean + half_width),
        p=two_sided_p(mean / error, degrees),
        n_seeds=n_seeds,
        n_questions=n_questions,
        error=error,
        degrees=degrees,
        seed_share=terms[0][0] / total,
    )


def question_error(values: Array) -> float:
    """Squared error of the mean over units, padded with two pseudo-units: ``[S, C]``."""
    pseudo = pseudo_difference(values)
    return squared_error(np.append(values.mean(0), (pseudo, -pseudo)))


def pseudo_difference(values: Array) -> float:
    """The pseudo-units' difference: that of the most different unit of any seed, or 1 where none differed."""
    return float(np.abs(values).max()) or 1.0


def _table(shares: Shares, name: str) -> Array:
    lengths = {len(row) for row in shares}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"{name} has {len(shares)} seeds with {sorted(lengths)} questions; every seed must answer the same "
            f"questions, at least one. Pass {name}[s][q], the share of right samples of question q at seed s."
        )
    return np.asarray(shares, dtype=np.float64)
