"""How sure an evaluation is: averages, paired differences, and what more questions, samples or seeds would add.

The unit is the question (or the cluster of questions that share a passage), never the sample: the k samples of
one question are alike, and counting them as independent makes intervals far too narrow (Miller 2024,
arXiv 2411.00640). With few questions, or scores near 0 or 1, the usual t interval is too narrow as well (Bowyer
et al. 2025, arXiv 2503.01747), so the spread between questions is estimated with two pseudo-questions added, one
at each end. It is then never zero, and hardly moved where questions do differ.

Intervals of one arm, and of two arms of one training seed, describe evaluation noise only: what another draw of
questions and samples would change. They say nothing of another training.
"""

from qtarget.evaluate.confidence.average import (
    Estimate,
    Grades,
    Intervals,
    average_at_k,
    intervals,
    shares_of,
)
from qtarget.evaluate.confidence.comparison import (
    BaselineDifference,
    Comparison,
    baseline_differences,
    paired_comparison,
    seeds_paired,
)
from qtarget.evaluate.confidence.holm import holm
from qtarget.evaluate.confidence.intervals import Interval
from qtarget.evaluate.confidence.paired import PairedDifference, paired_difference
from qtarget.evaluate.confidence.pass_at_k import PassAtK, pass_at_k
from qtarget.evaluate.confidence.planning import Power, VarianceSplit, power_of, variance_split
from qtarget.evaluate.confidence.seeds import SeedsDifference, paired_seeds, paired_suite

__all__ = [
    "BaselineDifference",
    "Comparison",
    "Estimate",
    "Grades",
    "Interval",
    "Intervals",
    "PairedDifference",
    "PassAtK",
    "Power",
    "SeedsDifference",
    "VarianceSplit",
    "average_at_k",
    "baseline_differences",
    "holm",
    "intervals",
    "paired_comparison",
    "paired_difference",
    "paired_seeds",
    "paired_suite",
    "pass_at_k",
    "power_of",
    "seeds_paired",
    "shares_of",
    "variance_split",
]
