"""Rows of the mathematics sets and their traps."""

import pytest

from qtarget.evaluate.tasks.math_sets import olympiadbench, problems


def row(**changes) -> dict:
    return {"problem": "What is $1 + 1$?", "answer": "2", **changes}


def olympiad(**changes) -> dict:
    return {"id": 1, "question": "What is it?", "final_answer": ["$2$"], "context": None, **changes}


def golds(*answers) -> list[str]:
    return [question.gold for question in problems([row(answer=answer) for answer in answers]).questions]


def test_gold_of_a_column_of_floats_is_a_whole_number():
    assert golds(27.0, -3.0, 0.75, 27) == ["27", "-3", "0.75", "27"]


def test_gold_is_what_stands_between_dollar_signs():
    assert golds("$\\frac{1}{2}$", " 2 ", "$1$ and $2$") == ["\\frac{1}{2}", "2", "$1$ and $2$"]


def test_gold_of_a_solution_is_its_last_box_with_all_its_braces():
    solution = r"First \boxed{1}, then \[ \boxed{\frac{1}{\sqrt{2}}} \]"
    assert problems([row(answer=None, solution=solution)]).questions[0].gold == r"\frac{1}{\sqrt{2}}"


def test_names_are_the_sets_own_or_made_of_the_text():
    named = problems([row(unique_id="test/algebra/1.json"), row(id=60), row(), row(problem="Another?")]).questions
    assert [question.qid for question in named[:2]] == ["test/algebra/1.json", "60"]
    assert named[2].qid == problems([row(answer="3")]).questions[0].qid != named[3].qid


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"problem": None}, "Row 2 has no `problem` or `question`; it has `answer`"),
        ({"problem": " "}, "Row 2 has ' ' for `problem`, where text is expected"),
        ({"problem": 7}, "Row 2 has 7 for `problem`, where text is expected"),
        ({"answer": None}, "Row 2 has no `solution`; it has `problem`"),
        ({"answer": None, "solution": "It is 2."}, "Row 2 has no `answer`, and its `solution` boxes none"),
        ({"answer": ""}, "Row 2 has an empty `answer`"),
        ({"answer": ["2"]}, r"Row 2 has \['2'\] for `answer`, where text or a number is expected"),
        ({"answer": True}, "Row 2 has True for `answer`"),
    ],
)
def test_a_row_that_lacks_something_is_named(changes: dict, said: str):
    with pytest.raises(ValueError, match=said):
        problems([row(), row(**changes)])


def test_olympiad_answers_are_one_list():
    assert olympiadbench([olympiad(final_answer=["$-1$", "$\\frac{1}{2}$"])]).questions[0].gold == "-1, \\frac{1}{2}"


def test_olympiad_context_stands_before_the_question_and_binds_those_that_share_it():
    first, second, third = olympiadbench(
        [olympiad(context="A game."), olympiad(id=2, context="A game."), olympiad(id=3)]
    ).questions
    assert first.text == "A game.\nWhat is it?"
    assert first.unit == second.unit != third.unit == "3"


@pytest.mark.parametrize("answers", [None, [], "2", [None]])
def test_olympiad_rows_without_answers_are_named(answers):
    with pytest.raises(ValueError, match="Row 1 has"):
        olympiadbench([olympiad(final_answer=answers)])
