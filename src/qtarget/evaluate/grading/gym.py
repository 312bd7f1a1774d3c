"""Grading the tasks of reasoning-gym by their own scorers, in processes that can be killed."""

import json
import re
from collections import deque
from importlib.metadata import version
from pathlib import Path

from qtarget.evaluate.grading.by_function import FunctionPool
from qtarget.evaluate.grading.thinking import said
from qtarget.evaluate.nouns import Grade, Question

ANSWER = re.compile(r"<answer>([^<]*+(?:<(?!/?answer>)[^<]*+)*+)</answer>")
SCORER = Path(__file__).with_name("gym_scorer.py")


class GymGrader:
    """What stands between the last ``<answer>`` and ``</answer>``, given to the scorer of the question's task.

    A score of 1 is right, and any other is wrong: part of a score is no answer.

    Args:
        seconds, memory_mib, at_once: as of `FunctionPool`.
    """

    name, version = "reasoning-gym", 2

    def __init__(self, seconds: float = 10.0, memory_mib: int = 2048, at_once: int | None = None) -> None:
        self.pool = FunctionPool(SCORER, "score", seconds, memory_mib, at_once)
        self.at_once = self.pool.at_once

    def fingerprint(self) -> str:
        return f"{self.name} {self.version} (reasoning-gym {version('reasoning-gym')}; {self.pool.limits})"

    def grade(self, question: Question, completion: str) -> Grade:
        text = said(completion)
        if text is None:
            return Grade(0, "unfinished_thinking")
        found = deque(ANSWER.finditer(text), 1)
        if not found or not (answer := found[0][1].strip()):
            return Grade(0, "no_answer")
        return self.pool.grade(answer, json.loads(question.row))

    def close(self) -> None:
        """End the processes."""
        self.pool.close()
