"""What the graders say of the golden corpus, and why; and that none of 2,000 wrong answers is right."""

from collections.abc import Iterator, Sequence
from random import Random

import pytest
from evaluate.golden_cases import cases, cases_in_every_letter, misjudged
from evaluate.grading.wrong_answers import Wrong, wrong_choices, wrong_expressions

from qtarget.evaluate.grading import ChoiceGrader, MathGrader
from qtarget.evaluate.nouns import Grade


@pytest.fixture(scope="module")
def mathematics() -> Iterator[MathGrader]:
    """One worker for all: it parses faster what is like what it parsed before."""
    grader = MathGrader(seconds=60, at_once=1)
    yield grader
    grader.close()


def test_mathematics(mathematics: MathGrader):
    assert misjudged(mathematics, cases("math")) == []


def test_multiple_choice():
    assert misjudged(ChoiceGrader(), cases("choice")) == []


def test_multiple_choice_never_depends_on_the_letter():
    assert misjudged(ChoiceGrader(), list(cases_in_every_letter())) == []


def test_the_corpus_is_large_and_says_each_case_once():
    asked = [*cases("math"), *cases("choice"), *cases_in_every_letter()]
    assert len(asked) >= 600
    assert len({(case.question, case.completion) for case in asked}) == len(asked)


def test_no_wrong_choice_of_many_is_right():
    assert taken_for_right(list(wrong_choices(Random(1), 1600)), ChoiceGrader()) == []


def test_no_wrong_expression_of_many_is_right(mathematics: MathGrader):
    assert taken_for_right(list(wrong_expressions(Random(2), 400)), mathematics) == []


def taken_for_right(wrong: Sequence[Wrong], grader: ChoiceGrader | MathGrader) -> list[tuple[Wrong, Grade]]:
    graded = [(answer, grader.grade(*answer)) for answer in wrong]
    assert all(grade.value is not None for _, grade in graded)
    return [(answer, grade) for answer, grade in graded if grade.value != 0]
