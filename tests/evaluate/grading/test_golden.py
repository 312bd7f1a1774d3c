"""The golden corpus: what the graders say of each case, and why."""

from concurrent.futures import ThreadPoolExecutor

from evaluate.golden_cases import cases, cases_in_every_letter, misjudged

from qtarget.evaluate.grading import ChoiceGrader, MathGrader


def test_mathematics():
    grader, asked = MathGrader(seconds=20), cases("math")
    with ThreadPoolExecutor(grader.at_once) as pool:
        grades = list(pool.map(lambda case: grader.grade(case.question, case.completion), asked))
    grader.close()
    assert misjudged(grader, asked, grades) == []


def test_multiple_choice():
    assert misjudged(ChoiceGrader(), cases("choice")) == []


def test_multiple_choice_never_depends_on_the_letter():
    assert misjudged(ChoiceGrader(), list(cases_in_every_letter())) == []


def test_the_corpus_is_large_and_says_each_case_once():
    asked = [*cases("math"), *cases("choice")]
    assert len(asked) >= 300
    assert len({(case.question, case.completion) for case in asked}) == len(asked)
