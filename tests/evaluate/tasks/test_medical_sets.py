"""Rows of the medical sets and their traps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qtarget.evaluate.grading import GRADERS
from qtarget.evaluate.tasks import order
from qtarget.evaluate.tasks.medical_sets import gpqa, lettered, medbullets, medmcqa, mmlu_pro_health, pubmedqa


def mcqa(cop: object = 1, **changes) -> dict:
    options = {"opa": "Liver", "opb": "Heart", "opc": "Lung", "opd": "Skin"}
    return {"id": f"row-{cop}", "question": "Which one beats?", **options, "cop": cop, **changes}


def by_letter(options: dict, gold: str = "A", **changes) -> dict:
    return {"question": "Which?", "options": options, "answer": options.get(gold), "answer_idx": gold, **changes}


def pro(**changes) -> dict:
    options = [f"option {i}" for i in range(10)]
    own = {"question_id": 7, "question": "Which?", "options": options, "answer": "J", "answer_index": 9}
    return {**own, "category": "health", **changes}


def graduate(**changes) -> dict:
    wrong = {f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)}
    own = {"Record ID": "rec1", "Question": "Which?", "Correct Answer": "right", **wrong}
    return {**own, "High-level domain": "Biology", **changes}


def abstract(**changes) -> dict:
    own = {"pubid": 1, "question": "Does it?", "context": {"contexts": ["We looked.", "It did."]}}
    return {**own, "final_decision": "yes", **changes}


FOUR = {"A": "Liver", "B": "Heart", "C": "Lung", "D": "Skin"}


def test_medmcqa_labels_count_from_zero():
    questions = medmcqa([mcqa(cop) for cop in range(4)]).questions
    assert [question.gold for question in questions] == ["A", "B", "C", "D"]
    assert questions[0].text == "Which one beats?\nA. Liver\nB. Heart\nC. Lung\nD. Skin"


def test_medmcqa_rows_without_a_label_are_left_out_and_counted_never_a():
    reading = medmcqa([mcqa(-1, id="x"), mcqa(2), mcqa(-1, id="y")])
    assert [question.gold for question in reading.questions] == ["C"]
    assert reading.remarks == ("2 of 3 rows have no label (`cop` is -1) and are left out",)


def test_a_split_without_labels_is_refused():
    with pytest.raises(ValueError, match=r"None of the 2 rows has a label .*Use `validation`"):
        medmcqa([mcqa(-1), mcqa(-1)])


@pytest.mark.parametrize("cop", [4, -2, "A", True, 1.5])
def test_gold_outside_of_the_options_is_refused(cop: object):
    with pytest.raises(ValueError, match=r"Row 2 has .* for `cop`, where the place of one of 4 options is expected"):
        medmcqa([mcqa(), mcqa(cop)])


def test_a_missing_option_is_named_with_its_row_and_what_the_row_has():
    with pytest.raises(ValueError, match="Row 1 has no `opc`; it has `id`, `question`, `opa`, `opb`, `opd`, `cop`"):
        medmcqa([mcqa(opc=None)])


def test_options_shown_twice_are_told_and_so_is_the_right_one_among_them():
    reading = medmcqa(
        [mcqa(0, id="wrong", opc="Heart", opd="heart "), mcqa(2, id="right", opd="lung"), mcqa(0, id="fine")]
    )
    assert reading.remarks == ("2 questions show an option twice, 1 of them the right one: wrong, right",)
    twin = next(question for question in reading.questions if question.qid == "right")
    assert [GRADERS["choice"]().grade(twin, f"\\boxed{{{letter}}}").value for letter in "ABCD"] == [0, 0, 1, 1]


def test_published_order_and_letters_are_kept():
    question = lettered([by_letter(FOUR, "C")]).questions[0]
    assert (question.options, question.gold) == (("Liver", "Heart", "Lung", "Skin"), "C")


def test_a_null_that_a_table_put_for_a_missing_option_is_none():
    assert lettered([by_letter({**FOUR, "E": None})]).questions[0].options == tuple(FOUR.values())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (by_letter(FOUR, "E"), "Row 1 has 'E' for `answer_idx`, which is none of its options A, B, C, D"),
        (by_letter({"A": "Liver", "C": "Lung"}), "Row 1 has .* for `options`, where"),
        (by_letter({"A": "Liver", "B": None, "C": "Lung"}), "Row 1 has .* for `options`, where"),
        ({**by_letter(FOUR), "options": list(FOUR.values())}, "Row 1 has .* for `options`, where"),
        (by_letter({}), "Row 1 has {} for `options`, where"),
    ],
)
def test_lettered_rows_that_cannot_be_asked_are_named(row: dict, said: str):
    with pytest.raises(ValueError, match=said):
        lettered([row])


def test_medbullets_questions_with_four_and_five_options_are_one_cluster():
    first, second, other = medbullets(
        [by_letter(FOUR), by_letter({**FOUR, "E": "Bone"}), by_letter(FOUR, question="Who?")]
    ).questions
    assert first.qid != second.qid
    assert first.unit == second.unit != other.unit


def test_pubmedqa_shows_the_abstract_and_the_three_decisions():
    question = pubmedqa([abstract(final_decision="maybe")]).questions[0]
    assert question.text == "We looked.\nIt did.\nDoes it?\nA. yes\nB. no\nC. maybe"
    assert (question.qid, question.gold) == ("1", "C")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"final_decision": "Yes"}, "where yes, no or maybe is expected"),
        ({"context": "We looked."}, "for `context`, where"),
        ({"context": {"contexts": []}}, "for `context`, where"),
        ({"pubid": None}, "has no `pubid`"),
    ],
)
def test_pubmedqa_rows_that_cannot_be_asked_are_named(changes: dict, said: str):
    with pytest.raises(ValueError, match=f"Row 1 .*{said}"):
        pubmedqa([abstract(**changes)])


def test_mmlu_pro_takes_health_alone_with_up_to_ten_options():
    reading = mmlu_pro_health([pro(), pro(category="law", question_id=8)])
    assert [(question.qid, question.gold, len(question.options)) for question in reading.questions] == [("7", "J", 10)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"category": "law"}, "None of the 1 rows has `category` health"),
        ({"answer": "A"}, "'A' for `answer` and 9 for `answer_index`, which say different things"),
        ({"answer": "K", "answer_index": 10}, "10 for `answer_index`, where the place of one of 10 options"),
        ({"options": "option 1"}, "for `options`, where a list is expected"),
    ],
)
def test_mmlu_pro_rows_that_cannot_be_asked_are_named(changes: dict, said: str):
    with pytest.raises(ValueError, match=said):
        mmlu_pro_health([pro(**changes)])


def test_gpqa_takes_biology_alone_and_its_right_answer_wherever_it_is_shown():
    rows = [graduate(**{"Record ID": f"rec{i}", "Question": f"Which of {i}?"}) for i in range(40)]
    questions = gpqa([*rows, graduate(**{"Record ID": "p", "High-level domain": "Physics"})]).questions
    assert len(questions) == 40
    assert all(question.options["ABCD".index(question.gold)] == "right" for question in questions)
    assert {question.gold for question in questions} == set("ABCD")


@pytest.mark.failure_case(16)
def test_the_order_of_options_is_that_of_every_process_and_machine():
    assert order.shuffled(4, "Which?") == [1, 0, 2, 3]
    script = f"import runpy; print(runpy.run_path({str(Path(order.__file__))!r})['shuffled'](10, 'Which?'))"
    said = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert said == {f"{order.shuffled(10, 'Which?')}{os.linesep}".encode()}
    assert sorted(order.shuffled(10, "Which?")) == list(range(10))
