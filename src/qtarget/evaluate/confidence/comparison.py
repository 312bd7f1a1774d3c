"""Arms on one set of questions: the paired difference, two second opinions on it, power, and p adjusted for all."""

from collections.abc import Sequence
from dataclasses import dataclass

from qtarget.evaluate.confidence.holm import holm
from qtarget.evaluate.confidence.intervals import Interval, percentiles
from qtarget.evaluate.confidence.planning import Power, power_of
from qtarget.evaluate.confidence.resampling import DRAWS, bootstrap_means, sign_flip_p, two_level_means
from qtarget.evaluate.confidence.seeds import SeedsDifference, Shares, paired_seeds, seed_differences
from qtarget.evaluate.confidence.units import by_unit, unit_totals


@dataclass(frozen=True)
class Comparison:
    """A minus B.

    Attributes:
        difference: with the interval and p to report (`paired_seeds`).
        bootstrap: percentiles over resampled questions, and seeds where there are several. A second opinion: too
            narrow for few seeds, and without width where the arms never differed.
        sign_flip_p: of no difference for these very trainings, by the signs of the questions' differences.
    """

    difference: SeedsDifference
    bootstrap: Interval
    sign_flip_p: float
    power: Power


def paired_comparison(
    a: Shares, b: Shares, *, units: Sequence[str] | None = None, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """Compare two arms: ``[S][Q]`` shares of right samples, paired by seed and question.

    Raises:
        ValueError: as `paired_seeds` does.
    """
    table = seed_differences(a, b)
    values = by_unit(table, units)
    means = two_level_means(values, draws, seed) if len(values) > 1 else bootstrap_means(values[0], draws, seed)
    return Comparison(
        difference=paired_seeds(a, b, units=units),
        bootstrap=percentiles(means),
        sign_flip_p=sign_flip_p(unit_totals(table.mean(0), units), draws, seed),
        power=power_of(a, b, units=units),
    )


@dataclass(frozen=True)
class BaselineDifference:
    """An arm minus the baseline.

    Attributes:
        p_holm: the difference's p, adjusted for the number of arms.
    """

    comparison: Comparison
    p_holm: float

    @property
    def is_clear(self) -> bool:
        """Whether the adjusted p is below 0.05."""
        return self.p_holm < 0.05


def baseline_differences(
    baseline: Shares, arms: Sequence[Shares], *, units: Sequence[str] | None = None
) -> list[BaselineDifference]:
    """Every arm compared with the baseline, in the order given; an arm of one seed stands for each of several.

    Raises:
        ValueError: as `paired_seeds` does.
    """
    found = [paired_comparison(*seeds_paired(arm, baseline), units=units) for arm in arms]
    adjusted = holm([comparison.difference.p for comparison in found])
    return [BaselineDifference(comparison, p) for comparison, p in zip(found, adjusted, strict=True)]


def seeds_paired(a: Shares, b: Shares) -> tuple[Shares, Shares]:
    """Both arms at the same number of seeds: a single one beside several is repeated, once for each of them."""
    most = max(len(a), len(b))
    return (a if len(a) == most else [*a] * most), (b if len(b) == most else [*b] * most)
