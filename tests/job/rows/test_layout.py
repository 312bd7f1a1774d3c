"""Rows under their own column names: which are taken, and that training asks as evaluation does."""

import re
from pathlib import Path
from typing import Any

import pytest
from job.command import run as command
from job.directories import write_rows

from qtarget.evaluate.nouns import Question
from qtarget.evaluate.prompts import check_as_trained, prompt_ids
from qtarget.job.config.checked_job import Job
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.job.rows.layout import training_rows
from qtarget.job.rows.rendering import render

ROWS = [
    {
        "problem": f"w{i} w{i + 1}",
        "solution": " ".join(["w9"] * (i + 1)),
        "messages": [{"role": "user", "content": "w0"}, {"role": "assistant", "content": f"w{i} w50"}],
    }
    for i in range(8)
]


@pytest.fixture
def job(here):
    """Makes a run over the rows above, with keys of its own."""
    write_rows(here / "own.jsonl", ROWS)

    def make(**keys: object) -> Job:
        lines = {"model": "qwen2", "train_dataset": "own.jsonl", "method": "sft", "output_dir": "out", **keys}
        (here / "run.yaml").write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
        return read_job(RunArguments(Path("run.yaml"), {}))

    return make


def learned(row: dict, tokenizer: Any) -> str:
    return tokenizer.decode([label for label in row["labels"] if label != -100], skip_special_tokens=True)


def test_columns_are_named(job):
    run = job(columns="{prompt: problem, completion: solution}", prompt_format="plain")
    rows = training_rows(run)
    assert rows.questions[1] == "w1 w2"
    assert learned(rows.laid_out[1], render(run).tokenizer) == "w9 w9"


def test_of_a_conversation_the_assistants_last_turn_is_learned(job):
    run = job(columns="{prompt: problem, completion: messages}", prompt_format="plain")
    assert learned(training_rows(run).laid_out[3], render(run).tokenizer) == "w3 w50"


def test_the_teacher_is_asked_its_own_prompt_in_the_same_way(job, here):
    write_rows(here / "own.jsonl", [{**row, "hint": f"w60 w61 {row['problem']}"} for row in ROWS])
    columns = "{prompt: problem, completion: solution, teacher_prompt: hint}"
    run = job(columns=columns, prompt_format="plain", method="target-sft", eta=0.5, teacher="self")
    tokenizer = render(run).tokenizer
    for row, own in zip(training_rows(run).laid_out, ROWS, strict=True):
        read = [token for tokens in row["teacher_ids"] for token in tokens]
        learned_ids = [label for label in row["labels"] if label != -100]
        asked = prompt_ids("plain", Question("", f"w60 w61 {own['problem']}", ""), tokenizer)
        assert read == [*asked, *learned_ids]


def test_a_conversation_of_one_question_is_asked(job):
    rows = training_rows(job(columns="{messages: messages}", prompt_format="plain"))
    assert rows.questions == ("w0",) * 8


def test_rows_that_ask_more_than_once_are_refused_or_left_out(here, job):
    long = [{"role": role, "content": "w1"} for role in ("user", "assistant", "user", "assistant")]
    write_rows(here / "own.jsonl", [{"messages": row["messages"]} for row in ROWS[:2]] + [{"messages": long}])
    with pytest.raises(ValueError, match=r"Row 3 .*has the turns user, assistant, user, assistant.*bad_rows: skip"):
        training_rows(job(prompt_format="plain"))
    rows = training_rows(job(prompt_format="plain", bad_rows="skip"))
    assert (len(rows.laid_out), sum(rows.dropped.values())) == (2, 1)


@pytest.mark.failure_case(17)
def test_training_asks_as_evaluation_does_and_learns_the_end(job):
    rendered = render(job(columns="{prompt: problem, completion: solution}", prompt_format="plain"))
    row = min(rendered.documents("reference"), key=lambda document: len(document.ids))
    asked = prompt_ids("plain", Question("", ROWS[0]["problem"], ""), rendered.tokenizer)
    check_as_trained(asked, row.ids, rendered.tokenizer)
    rows = training_rows(job(columns="{prompt: problem, completion: solution}", prompt_format="plain")).laid_out
    learned = [token for token in rows[0]["labels"] if token != -100]
    assert rows[0]["labels"][: len(asked)] == [-100] * len(asked)
    assert learned == [*rendered.tokenizer("w9")["input_ids"], rendered.tokenizer.eos_token_id]


def test_the_first_rows_or_a_draw_of_them(job):
    columns = {"columns": "{prompt: problem, completion: solution}", "train_rows": 3}
    columns["prompt_format"] = "plain"
    first, drawn = (training_rows(job(**columns, **more)) for more in ({}, {"train_rows_seed": 1}))
    assert first.taken["problem"] == [row["problem"] for row in ROWS[:3]]
    assert len(drawn.taken) == 3
    assert drawn.taken["problem"] != first.taken["problem"]
    assert list(drawn.questions) == list(drawn.taken["problem"])


def test_rows_that_are_too_long_are_left_out_before_any_is_taken(job):
    keys = {"columns": "{prompt: problem, completion: solution}", "prompt_format": "plain"}
    lengths = [len(row) for row in training_rows(job(**keys)).laid_out["input_ids"]]
    limit = sorted(lengths)[3]
    rows = training_rows(job(**keys, max_length=limit, longer_rows="drop", train_rows=2))
    assert [len(row) for row in rows.laid_out["input_ids"]] == [n for n in lengths if n <= limit][:2]
    assert len(rows.taken) == 2


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"columns": "{prompt: question, completion: solution}", "prompt_format": "plain"},
            "`columns` reads `prompt` from `question`",
        ),
        ({"prompt_column": "problem"}, "write `columns: {prompt: problem}`"),
        (
            {"columns": "{prompt: problem, completion: solution}", "train_rows": 9},
            "write `train_rows: 8` or fewer",
        ),
        (
            {"columns": "{prompt: messages, completion: solution}", "prompt_format": "plain"},
            "`solution` is text, and `messages` is a conversation",
        ),
        ({"prompt_format": "qwen-box"}, 'did you mean "qwen-boxed"'),
        ({"longer_rows": "drop"}, "write `prompt_format: qwen-boxed`"),
        ({"longer_rows": "drop", "prompt_format": "qwen-boxed", "max_length": "null"}, "write `max_length: 4096`"),
        ({"train_rows_seed": 3}, "add `train_rows: 1000`"),
        ({"columns": "{prompt: problem, completion: solution}", "prompt_format": "llama-boxed"}, "<|eot_id|>"),
    ],
)
def test_what_does_not_fit_is_refused(job, keys, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        training_rows(job(**keys))


def test_a_run_over_the_users_own_columns(here, capsys):
    write_rows(here / "own.jsonl", ROWS)
    columns = ("--columns", "{prompt: problem, completion: messages}")
    words = "--prompt-format plain --train-rows 4 --max-steps 1"
    words += " --eval-dataset null --save-strategy no"
    said = command(capsys, "train", "config.yaml", "--train-dataset", "own.jsonl", *words.split(), *columns)
    assert said.code == 0, said.err
    assert "4 rows; " in said.out
    assert "prompt_format: plain" in (here / "out" / "train.yaml").read_text()
