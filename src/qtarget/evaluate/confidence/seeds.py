"""The difference of two methods over several training seeds and many questions, both taken as drawn at random."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qtarget.evaluate.confidence.error_parts import ErrorPart, half_width, standard_error, two_sided_p
from qtarget.evaluate.confidence.intervals import squared_error
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
    methods are paired by place, and all seeds answer the same questions. Both are random effects that cross: the
    squared error is that of the seeds' means plus that of the questions' means, each taken from its own spread and
    with its own quantile of Student's t (`error_parts.half_width`). The noise of single cells is in both parts; left
    so, it is on the safe side. The questions' spread is taken with two pseudo-questions added, one in favour of each
    side (`pseudo_difference`), so the width is never zero.

    More seeds of one population never widen the interval on average, and what it says of two seeds is true, if
    little: their own spread has one degree of freedom, and t is 12.7. How often it holds the truth, simulated with
    1 to 10 seeds and 10 to 500 questions, stands in docs/statistics.md (`benchmarks/coverage.py`). One seed gives an
    interval by question alone, of evaluation noise only.

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
    seed_means = np.mean([values.mean(1) for values in by_unit_of], axis=0)
    of_questions = [question_part(values) for values in by_unit_of]
    parts = [*seed_part(seed_means), *(part._replace(squared=part.squared / len(tables) ** 2) for part in of_questions)]
    return _difference(float(seed_means.mean()), parts, len(seed_means), sum(table.shape[1] for table in tables))


def _difference(mean: float, parts: Sequence[ErrorPart], n_seeds: int, n_questions: int) -> SeedsDifference:
    """The result from the parts of the squared error, the seeds' first where there are several."""
    half, error = half_width(parts), standard_error(parts)
    return SeedsDifference(
        mean=mean,
        low=max(-1.0, mean - half),
        high=min(1.0, mean + half),
        p=two_sided_p(mean, parts),
        n_seeds=n_seeds,
        n_questions=n_questions,
        error=error,
        seed_share=parts[0].squared / error**2 if n_seeds > 1 else 0.0,
    )


def seed_part(seed_means: Array) -> list[ErrorPart]:
    """What the seeds add to the squared error of the mean of ``[S]`` seeds' means; nothing for a single one."""
    return [ErrorPart(squared_error(seed_means), len(seed_means) - 1)] if len(seed_means) > 1 else []


def question_part(values: Array) -> ErrorPart:
    """What the questions add to the squared error of a mean over ``[S, C]``, with two pseudo-units."""
    pseudo = pseudo_difference(values)
    return ErrorPart(squared_error(np.append(values.mean(0), (pseudo, -pseudo))), values.shape[1] + 1)


def pseudo_difference(values: Array) -> float:
    """The pseudo-units' difference: a seed's most different unit, or 1 where none differed, on average over the seeds.

    Its expectation is the same for any number of seeds. The most different unit of any seed would grow with their
    number, and the interval with it; the unit whose mean over the seeds is the most different shrinks where a rare
    question that none of these is would still differ by much, and held the truth in 88 % of draws.
    """
    of_seeds = np.abs(values).max(1)
    return float(np.where(of_seeds > 0, of_seeds, 1.0).mean())


def _table(shares: Shares, name: str) -> Array:
    lengths = {len(row) for row in shares}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"{name} has {len(shares)} seeds with {sorted(lengths)} questions; every seed must answer the same "
            f"questions, at least one. Pass {name}[s][q], the share of right samples of question q at seed s."
        )
    return np.asarray(shares, dtype=np.float64)
