"""The protocol of models that think, beside the tasks' own."""

from dataclasses import replace
from pathlib import Path

import pytest

from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.prepare import task_run_of
from qtarget.evaluate.tasks import TASKS
from qtarget.evaluate.tasks.protocols import under_protocol
from qtarget.evaluate.tasks.questions import sample_rows


def test_thinking_asks_the_same_questions_at_length():
    asked = under_protocol("thinking", TASKS["aime26"].ask)
    assert (asked.temperature, asked.top_p, asked.max_new_tokens, asked.k) == (0.6, 0.95, 32768, 16)
    assert asked.prompt == "auto-boxed"
    assert under_protocol("thinking", TASKS["medqa"].ask).prompt == "m1"
    assert under_protocol("task", TASKS["medqa"].ask) == TASKS["medqa"].ask
    with pytest.raises(ValueError, match=r"Unknown protocol 'thinkng'\. Did you mean 'thinking'"):
        under_protocol("thinkng", TASKS["medqa"].ask)


def test_a_run_says_what_is_not_the_tasks_own(tmp_path: Path):
    task = TASKS["gsm8k"]
    plan = EvaluationPlan("m", ("gsm8k",), tmp_path, {"k": 2}, lock=tmp_path / "lock", protocol_name="thinking")
    run = task_run_of(replace(plan, rows={"gsm8k": sample_rows(task)}), task)
    assert run.overridden == ("prompt", "k", "temperature", "top_p", "max_new_tokens")
    assert [question.gold for question in run.questions] == ["72", "1250", "5"]
