"""Graders: a completion gets 1, 0 or None (unknown), with the reason. No grader guesses what a model meant."""

from collections.abc import Callable

from qtarget.evaluate.grading.by_function import PythonGrader, RegexGrader
from qtarget.evaluate.grading.choice import ChoiceGrader
from qtarget.evaluate.grading.gym import GymGrader
from qtarget.evaluate.grading.judge import JudgeGrader
from qtarget.evaluate.grading.lab_answer import LabGrader
from qtarget.evaluate.grading.math import MathGrader
from qtarget.evaluate.grading.number import NumberGrader
from qtarget.evaluate.grading.same_text import ContainsGrader, ExactGrader
from qtarget.evaluate.nouns import Grader

GRADERS: dict[str, Callable[..., Grader]] = {
    "math": MathGrader,
    "choice": ChoiceGrader,
    "lab": LabGrader,
    "exact": ExactGrader,
    "contains": ContainsGrader,
    "regex": RegexGrader,
    "number": NumberGrader,
    "python": PythonGrader,
    "judge": JudgeGrader,
    "reasoning-gym": GymGrader,
}
"""Graders by the name that tasks give. A grader with a `close` is closed when grading is over."""

__all__ = [
    "GRADERS",
    "ChoiceGrader",
    "ContainsGrader",
    "ExactGrader",
    "GymGrader",
    "JudgeGrader",
    "LabGrader",
    "MathGrader",
    "NumberGrader",
    "PythonGrader",
    "RegexGrader",
]
