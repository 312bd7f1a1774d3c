"""The catalogue: every task can be read, asked and graded."""

from pathlib import Path
from typing import get_args

import pytest

from qtarget import lab
from qtarget.disk.pages import filled
from qtarget.evaluate.grading import GRADERS
from qtarget.evaluate.nouns import Reason
from qtarget.evaluate.prompts import PROMPTS
from qtarget.evaluate.tasks import TASKS, task
from qtarget.evaluate.tasks.questions import load_questions, sample_rows
from qtarget.evaluate.tasks.view import task_parts

SUITES = {
    suite: [name for name, one in TASKS.items() if one.suite == suite]
    for suite in ("math", "medical", "knowledge", "lab")
}


def test_it_has_the_suites():
    assert sum(map(len, SUITES.values())) == len(TASKS)
    assert {"math-500", "olympiadbench", "aime24", "aime25", "amc23"} < set(SUITES["math"])
    assert {"medqa", "medmcqa", "pubmedqa", "gpqa"} < set(SUITES["medical"])
    assert SUITES["lab"] == [f"lab-{name}" for name in lab.WORLDS]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_names_itself_its_prompt_and_its_grader(name: str):
    one = TASKS[name]
    assert one.name == name
    assert one.ask.prompt in PROMPTS
    assert one.grader in GRADERS
    assert bool(one.source.hub) != (one.source.make is not None)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_can_be_read_and_a_right_answer_is_right(name: str, tmp_path):
    one = TASKS[name]
    found = load_questions(one, tmp_path / "lock.json", None if one.suite == "lab" else sample_rows(one))
    assert len(found.questions) >= 3
    assert len({question.qid for question in found.questions}) == len(found.questions)
    grader = GRADERS[one.grader]()
    for question in found.questions:
        answer = f"so answer {question.gold}" if one.grader == "lab" else rf"\boxed{{{question.gold}}}"
        assert grader.grade(question, answer).value == 1
        assert grader.grade(question, "").reason == "no_answer"


def test_protocols():
    asks = {suite: {TASKS[name].ask for name in names} for suite, names in SUITES.items()}
    assert [(a.prompt, a.k, a.temperature, a.top_p, a.max_new_tokens) for a in asks["math"]] == [
        ("qwen-boxed", 16, 1.0, 1.0, 4096)
    ]
    assert [(a.prompt, a.k, a.temperature, a.max_new_tokens) for a in asks["medical"]] == [("m1", 1, 0.0, 2048)]
    assert {(a.prompt, a.k, a.temperature) for a in asks["lab"]} == {("plain", 16, 1.0)}


def test_lab_tasks_hold_the_worlds_held_out_questions():
    world = lab.world("weak-operator")
    one = task("lab-weak-operator")
    questions = one.read(one.source.make()).questions
    assert [(q.text, q.gold) for q in questions] == [(q["prompt"], q["answer"]) for q in lab.questions(world, 120, 0)]
    assert one.ask.max_new_tokens == world.max_new_tokens


def test_an_unknown_task_is_told_the_near_one():
    with pytest.raises(ValueError, match="Did you mean 'math-500'"):
        task("math500")


def test_the_page_of_tasks_is_the_catalogue():
    page = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert page.count("\n| `") >= len(TASKS)
    assert filled(page, task_parts().__getitem__) == page, "docs/tasks.md is out of date; run: make docs"
    assert all(f"| `{name}` |" in page for name in PROMPTS)
    assert all(f"| `{reason}` |" in page for reason in get_args(Reason))
