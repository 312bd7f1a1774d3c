"""Cases that pin what graders say; `why` names the trap."""

import json
from pathlib import Path

import pytest

from qtarget.evaluate.grading import GRADERS, MathGrader
from qtarget.evaluate.nouns import Question

GOLDEN = Path(__file__).parents[1] / "golden"


def cases(name: str) -> list:
    lines = (GOLDEN / f"{name}.jsonl").read_text().splitlines()
    return [pytest.param(case, id=case["why"]) for case in map(json.loads, lines)]


@pytest.fixture(scope="module")
def mathematics():
    grader = MathGrader()
    yield grader
    grader.close()


@pytest.mark.parametrize("case", cases("math"))
def test_mathematics(case: dict, mathematics: MathGrader):
    grade = mathematics.grade(Question("q", "?", case["gold"]), case["completion"])
    assert (grade.value, grade.reason) == (case["value"], case["reason"])


@pytest.mark.parametrize("case", cases("choice"))
def test_multiple_choice(case: dict):
    question = Question("q", "?", case["gold"], tuple(case["options"]))
    grade = GRADERS["choice"]().grade(question, case["completion"])
    assert (grade.value, grade.reason) == (case["value"], case["reason"])
    if case["extracted"]:
        assert grade.extracted == case["extracted"]
