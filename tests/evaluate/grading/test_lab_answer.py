"""The lab's grade, with its reasons."""

import pytest

from qtarget import lab
from qtarget.evaluate.grading import GRADERS
from qtarget.evaluate.nouns import Question

QUESTION = Question("q", "3 + 4 ?", "7")


@pytest.mark.parametrize(
    ("completion", "value", "reason"),
    [
        ("3 + 4 = 7 so answer 7", 1, "ok"),
        ("3 + 4 = 8 so answer 8", 0, "ok"),
        ("answer 7 so answer 3", 0, "ok"),
        ("answer 7 7", 0, "ok"),
        ("answer", 0, "no_answer"),
        ("3 + 4 = 7", 0, "no_answer"),
        ("", 0, "no_answer"),
    ],
)
def test_values_and_reasons(completion: str, value: int, reason: str):
    grade = GRADERS["lab"]().grade(QUESTION, completion)
    assert (grade.value, grade.reason) == (value, reason)
    assert bool(grade.value) == lab.grade({"prompt": QUESTION.text, "answer": QUESTION.gold}, completion)
