"""Tasks of reasoning-gym: made by name and seed, graded by its own scorers. Most of it needs the extra."""

import importlib.util
from pathlib import Path

import pytest

from qtarget.evaluate.grading import GymGrader
from qtarget.evaluate.grading.grader_settings import make_grader
from qtarget.evaluate.grading.gym import ANSWER
from qtarget.evaluate.tasks.find import find_task
from qtarget.evaluate.tasks.lock_file import LOCK_NAME
from qtarget.evaluate.tasks.questions import load_questions

IS_THERE = importlib.util.find_spec("reasoning_gym") is not None
needs_gym = pytest.mark.skipif(not IS_THERE, reason="needs qtarget[reasoning-gym]")


@pytest.mark.skipif(IS_THERE, reason="reasoning-gym is installed")
def test_without_it_the_line_to_write_is_said():
    with pytest.raises(ValueError, match=r"needs reasoning_gym; write: pip install 'qtarget\[train,reasoning-gym\]'"):
        find_task("reasoning-gym:chain_sum")


@pytest.mark.parametrize("word", ["reasoning-gym:chain_sum:x", "reasoning-gym:chain_sum:0:0", "reasoning-gym:a:1:2:3"])
def test_words_that_name_no_task(word: str):
    with pytest.raises(ValueError, match="write reasoning-gym:NAME:SEED:QUESTIONS"):
        find_task(word)


def test_the_last_answer_counts():
    found = [match[1] for match in ANSWER.finditer("<answer>1</answer> no <answer>2 < 3\n4</answer> <answer>5")]
    assert found == ["1", "2 < 3\n4"]
    assert not ANSWER.search("<answer>" * 50_000 + "<" * 50_000)


@needs_gym
def test_an_unknown_name_is_told_the_near_one():
    with pytest.raises(ValueError, match="Did you mean 'chain_sum'"):
        find_task("reasoning-gym:chainsum")


@needs_gym
@pytest.mark.parametrize("name", ["chain_sum", "countdown", "arc_1d", "mini_sudoku"])
def test_questions_come_from_the_seed_and_grades_from_its_scorers(name: str, tmp_path: Path):
    lock = tmp_path / LOCK_NAME
    task = find_task(f"reasoning-gym:{name}:7:3")
    found = load_questions(task, lock)
    assert (task.name, len(found.questions), found.remarks) == (f"reasoning-gym-{name}-7-3", 3, ())
    assert load_questions(find_task(f"reasoning-gym:{name}:7:3"), lock).questions == found.questions
    assert load_questions(find_task(f"reasoning-gym:{name}:8:3"), lock).questions != found.questions
    assert not lock.exists()
    grader = make_grader(task.grader, {"at_once": 1})
    assert isinstance(grader, GymGrader)
    try:
        for question in found.questions:
            said = [f"<think>x</think> so <answer>{text}</answer>" for text in (question.gold, "nothing")]
            assert [grader.grade(question, text).value for text in said] == [1, 0]
            assert grader.grade(question, question.gold).reason == "no_answer"
    finally:
        grader.close()
