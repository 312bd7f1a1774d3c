"""How sure an evaluation is: averages, paired differences, and what more questions, samples or seeds would add.

The unit is the question (or the cluster of questions that share a passage), never the sample: the k samples of
one question are alike, and counting them as independent makes intervals far too narrow (Miller 2024,
arXiv 2411.00640).
"""

from qtarget.evaluate.statistics.average import Estimate, average_at_k
from qtarget.evaluate.statistics.paired import PairedDifference, paired_difference
from qtarget.evaluate.statistics.seeds import SeedsDifference, paired_seeds

__all__ = [
    "Estimate",
    "PairedDifference",
    "SeedsDifference",
    "average_at_k",
    "paired_difference",
    "paired_seeds",
]
