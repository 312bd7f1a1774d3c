"""Evaluation: sample k completions per question, grade them, and say how sure the average is."""

from qtarget.evaluate.evaluation import Evaluation, Grader, Question, evaluate
from qtarget.evaluate.generators.sampling import Sample, Sampling, SamplingProgress, sample_completions
from qtarget.evaluate.statistics import (
    Estimate,
    PairedDifference,
    SeedsDifference,
    average_at_k,
    paired_difference,
    paired_seeds,
)

__all__ = [
    "Estimate",
    "Evaluation",
    "Grader",
    "PairedDifference",
    "Question",
    "Sample",
    "Sampling",
    "SamplingProgress",
    "SeedsDifference",
    "average_at_k",
    "evaluate",
    "paired_difference",
    "paired_seeds",
    "sample_completions",
]
