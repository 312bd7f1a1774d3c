"""Graders: a completion gets 1, 0 or None (unknown), with the reason. No grader guesses what a model meant."""

from collections.abc import Callable

from qtarget.evaluate.grading.choice import ChoiceGrader
from qtarget.evaluate.grading.lab_answer import LabGrader
from qtarget.evaluate.grading.math import MathGrader
from qtarget.evaluate.nouns import Grader

GRADERS: dict[str, Callable[[], Grader]] = {
    "math": MathGrader,
    "choice": ChoiceGrader,
    "lab": LabGrader,
}
"""Graders by the name that tasks give. A grader with a `close` is closed when grading is over."""

__all__ = ["GRADERS", "ChoiceGrader", "LabGrader", "MathGrader"]
