"""Evaluation: ask a model k times each question, grade the answers, and say how sure the average is."""

from qtarget.outcomes import needs_extra

with needs_extra("qtarget.evaluate"):
    from qtarget.evaluate.confidence import (
        Estimate,
        PairedDifference,
        SeedsDifference,
        average_at_k,
        paired_difference,
        paired_seeds,
    )

__all__ = [
    "Estimate",
    "PairedDifference",
    "SeedsDifference",
    "average_at_k",
    "paired_difference",
    "paired_seeds",
]
