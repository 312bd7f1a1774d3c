"""docs/tutorial.md can be followed: its script makes what it says, its commands are ones that there are.

`make tutorial` runs all of it, with a real model, in about half an hour (tests/docs/tutorial_replay.py).
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from docs.tutorial_replay import PAGE, blocks, commands, tidy

import qtarget as qt
from qtarget.job.config.keys import all_keys
from qtarget.target.hyperparameters import hyperparameters

PAGES = [PAGE, PAGE.with_name("which-target.md"), PAGE.with_name("resume.md"), PAGE.parents[1] / "README.md"]
KEYS = {*all_keys(), *(each.name for factory in qt.METHODS.values() for each in hyperparameters(factory))}


def lines() -> list[str]:
    """Every command of ours on the pages that one follows from top to bottom."""
    shown = [line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))]
    return [line for line in shown if line.startswith("qtarget ")]


def unknown_options(line: str) -> list[str]:
    """The options of a command line that its command does not have."""
    from qtarget.cli.main import app

    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
    if command.context_settings.get("ignore_unknown_options"):  # a configuration's keys are options too
        known |= {f"--{key.replace('_', '-')}" for key in KEYS}
    return [word for word in words if word.startswith("--") and word not in known]


@pytest.mark.parametrize("line", lines())
def test_commands_of_pages_are_there(line: str):
    assert unknown_options(line) == []


def test_an_option_that_is_not_there_is_seen():
    assert unknown_options("qtarget train a.yaml --learning-rat 1e-5 --lora-r 8 --eta 0.5") == ["--learning-rat"]
    assert len(lines()) > 15


def test_the_script_of_the_tutorial_makes_rows_and_questions(tmp_path: Path):
    script = next(block for block in blocks(PAGE.read_text(encoding="utf-8")) if block.file)
    (tmp_path / script.file).write_text(script.text, encoding="utf-8")
    subprocess.run([sys.executable, script.file], cwd=tmp_path, check=True)
    rows, questions = (
        [json.loads(line) for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()]
        for name in ("rows.jsonl", "questions.jsonl")
    )
    assert (len(rows), len(questions)) == (240, 60)
    assert not {row["question"] for row in rows} & {question["question"] for question in questions}
    assert f"> {rows[0]['question']} → `{rows[0]['answer']}`" in PAGE.read_text(encoding="utf-8")


def test_what_is_shown_has_no_progress_in_it():
    assert tidy("\na  \n10 %\r20 %\n\nb\n\n") == "a\n\nb\n"


def test_every_output_of_the_tutorial_is_there():
    shown = [block for block in blocks(PAGE.read_text(encoding="utf-8")) if block.language == "text"]
    assert len(shown) > 8
    assert [block for block in shown if not block.text.strip()] == []
